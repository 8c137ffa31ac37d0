//! What the outside sees, asked of a deployed stack.

use std::path::Path;

use binplz_core::build::policy::Policy;
use binplz_tests::{answers::Start, stack::Stack};

/// On the bed.
struct Deployed;

impl Start for Deployed {
    type Running = Stack;
    fn start(&self, set: &Path, policy: &Policy) -> Stack {
        Stack::deploy(set, policy)
    }
}

/// One test for each promise.
macro_rules! deployed {
    ($module:ident: $($promise:ident),+;) => {
        mod $module {
            $(
                #[test]
                #[ignore = "needs AWS beside it: tests/bed/up --tasks"]
                fn $promise() {
                    binplz_tests::answers::$module::$promise(&super::Deployed);
                }
            )+
        }
    };
}

binplz_tests::answer_promises!(deployed);
binplz_tests::operator_promises!(deployed);
