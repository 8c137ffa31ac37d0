//! What a function logs if it cannot start.

use std::process::Command;

#[test]
fn a_missing_variable_is_named_in_one_line_of_json() {
    let out = Command::new(env!("CARGO_BIN_EXE_binplz-reaper")).env_clear().env("AWS_REGION", "us-east-1").output();
    let out = out.expect("it runs");
    let said: serde_json::Value = serde_json::from_slice(&out.stdout).expect("one line of JSON");
    let expected = serde_json::json!({
        "level": "ERROR", "message": "the function cannot continue", "error": "AWS_ACCESS_KEY_ID is not set",
    });
    assert_eq!((out.status.code(), said, out.stderr.as_slice()), (Some(1), expected, &b""[..]));
}
