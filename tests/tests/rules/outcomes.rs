//! The outcome table of the code is the one in the guides and in the OpenAPI document. `BINPLZ_WRITE=1` writes it there.

use std::{fs, path::Path};

use binplz_core::answer::outcomes;

/// A document with a part that is rendered: from the line that begins with `head`, to the end of its paragraph or line.
struct Rendered {
    file: &'static str,
    head: &'static str,
    end: &'static str,
    text: String,
}

fn rendered() -> Vec<Rendered> {
    let full = outcomes::in_full();
    let (reasons, clients) = full.split_once("\n\n").expect("two tables");
    vec![
        Rendered { file: "README.md", head: "| status | when |", end: "\n\n", text: outcomes::by_status() },
        Rendered { file: "infra/outcomes.md", head: "| reason | status |", end: "\n\n", text: reasons.to_owned() },
        Rendered { file: "infra/outcomes.md", head: "| reason | `curl -L` |", end: "\n\n", text: clients.to_owned() },
        Rendered {
            file: "functions/web/assets/openapi.json",
            head: "The reasons of answers",
            end: "\"\n",
            text: outcomes::in_a_paragraph(),
        },
    ]
}

#[test]
fn the_documents_have_the_outcome_table_of_the_code() {
    for Rendered { file, head, end, text } in rendered() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
        let document = fs::read_to_string(&path).expect("a document");
        let (before, rest) = document.split_once(head).unwrap_or_else(|| panic!("{file} has no {head:?}"));
        let after = &rest[rest.find(end).unwrap_or(rest.len())..];
        let text = text.trim_end();
        if std::env::var_os("BINPLZ_WRITE").is_some() {
            fs::write(&path, format!("{before}{text}{after}")).expect("a document");
        } else {
            assert!(document.contains(text), "{file} is stale: BINPLZ_WRITE=1 cargo test --workspace --test rules");
        }
    }
}
