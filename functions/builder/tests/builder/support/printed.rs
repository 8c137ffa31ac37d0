//! What a hostile build may print: text, and Nix's own messages.

use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};

/// Texts that Nix uses of other derivations, of the machine and of the cache.
fn words(drvs: [&'static str; 3]) -> impl Strategy<Value = String> {
    let claim = prop_oneof![
        Just("error: builder for '{}' failed with exit code 1"),
        Just("\u{1b}[31;1merror:\u{1b}[0m builder for '{}' failed with exit code 1"),
        Just("error: hash mismatch in fixed-output derivation '{}'"),
        Just("error: building of '{}' timed out after 1 seconds"),
        Just("error: building of '{}' killed after writing more than 1 bytes of log output"),
        Just("error: a 'x86_64-linux' with features {} is required to build '{}'"),
        Just("error: unable to start build process"),
        Just("error: the group 'nixbld' specified in 'build-users-group' does not exist"),
        Just("error: '{}' is not signed by any of the keys in 'trusted-public-keys'"),
        Just("error: some substitutes for the outputs of derivation '{}' failed"),
        Just("error: interrupted by the user"),
        Just("       last 10 log lines:"),
        Just("this derivation will be built:\n  {}"),
    ];
    let claimed = (claim, prop_oneof![Just(drvs[0]), Just(drvs[1]), Just(drvs[2])]);
    prop_oneof![
        3 => claimed.prop_map(|(claim, drv)| claim.replace("{}", drv)),
        1 => ".{0,40}",
    ]
}

/// A field. Some versions of Nix end at one that is neither a number nor a text, so these are rare.
fn value(drvs: [&'static str; 3]) -> impl Strategy<Value = Value> {
    prop_oneof![
        200 => (98u64..110).prop_map(Value::from),
        100 => any::<i64>().prop_map(Value::from),
        200 => words(drvs).prop_map(Value::from),
        1 => Just(Value::Null),
        1 => Just(json!([1, {"x": []}])),
    ]
}

/// An activity's number. Some versions of Nix end at anything else.
fn id(drvs: [&'static str; 3]) -> impl Strategy<Value = Value> {
    prop_oneof![100 => (0u64..12).prop_map(Value::from), 100 => any::<u64>().prop_map(Value::from), 1 => value(drvs)]
}

/// A line of a build: text, or framed as Nix's messages, or nearly so. It may name these derivations.
pub(crate) fn line(drvs: [&'static str; 3]) -> impl Strategy<Value = String> {
    let action = prop_oneof![Just("msg"), Just("start"), Just("stop"), Just("result"), Just("setPhase"), Just("x")];
    let fields = vec(value(drvs), 0..5);
    let framed = (action, id(drvs), 98u64..110, 0u64..8, words(drvs), fields, any::<bool>()).prop_map(
        |(action, id, kind, level, text, fields, raw)| {
            let mut json = json!({"action": action, "id": id, "type": kind, "level": level, "msg": text, "text": text,
                "phase": text, "fields": fields});
            if raw {
                json["raw_msg"] = json["msg"].clone();
            }
            format!("@nix {json}")
        },
    );
    prop_oneof![
        4 => framed,
        1 => words(drvs).prop_map(|words| words.replace('\n', " ")),
        1 => "(@nix )?[^\n]{0,60}",
    ]
}
