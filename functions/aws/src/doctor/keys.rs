//! The keys in KMS that sign.

use aws_sdk_kms::{Client, types::KeyMetadata};
use aws_types::SdkConfig;
use binplz_core::flow::operator::findings::Finding;

use super::unknown;
use crate::stack::Stack;

/// The checks of the two keys, in the order of the parameter.
const CHECKS: [&str; 2] = ["program key", "log key"];
const CREATE: &str = "aws kms create-key --key-spec ECC_NIST_EDWARDS25519 --key-usage SIGN_VERIFY   # then deploy with its ARN in SigningKeys";

/// Checks the keys of a stack that signs.
pub(super) async fn examine(stack: &Stack, sdk: &SdkConfig) -> Vec<Finding> {
    let keys = stack.parameters.get("SigningKeys").map_or("", String::as_str);
    let keys: Vec<&str> = keys.split(',').map(str::trim).filter(|key| !key.is_empty()).collect();
    if keys.is_empty() {
        return Vec::new();
    }
    if keys.len() != CHECKS.len() {
        let told = format!("SigningKeys has {} keys; 2 are needed", keys.len());
        return vec![Finding::missing(CHECKS[0], told, CREATE)];
    }
    let kms = Client::new(sdk);
    let region = sdk.region().map_or("", AsRef::as_ref);
    let mut findings = Vec::new();
    for (check, arn) in CHECKS.into_iter().zip(keys) {
        findings.push(match arn.split(':').nth(3).filter(|other| *other != region) {
            Some(other) => Finding::missing(check, format!("{arn} is in {other}, and the stack in {region}"), CREATE),
            None => match kms.describe_key().key_id(arn).send().await {
                Ok(found) => judge(check, arn, found.key_metadata()),
                Err(error) => match error.as_service_error().is_some_and(|error| error.is_not_found_exception()) {
                    true => Finding::missing(check, format!("{arn} does not exist"), CREATE),
                    false => unknown(check, &error),
                },
            },
        });
    }
    findings
}

fn judge(check: &str, arn: &str, key: Option<&KeyMetadata>) -> Finding {
    let text = |value: Option<&str>| value.unwrap_or("unknown").to_owned();
    let spec = text(key.and_then(|key| Some(key.key_spec()?.as_str())));
    let usage = text(key.and_then(|key| Some(key.key_usage()?.as_str())));
    let state = text(key.and_then(|key| Some(key.key_state()?.as_str())));
    let told = format!("{arn} is {state}, {spec}, {usage}");
    if (spec.as_str(), usage.as_str()) != ("ECC_NIST_EDWARDS25519", "SIGN_VERIFY") {
        return Finding::missing(check, told, CREATE);
    }
    match state.as_str() {
        "Enabled" => Finding::ok(check, told),
        // KMS disables a key whose deletion is cancelled.
        "PendingDeletion" => {
            let mend = format!("aws kms cancel-key-deletion --key-id {arn} && aws kms enable-key --key-id {arn}");
            Finding::missing(check, told, mend)
        }
        _ => Finding::missing(check, told, format!("aws kms enable-key --key-id {arn}")),
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_kms::types::{KeySpec, KeyState, KeyUsageType};

    use super::*;

    #[test]
    fn a_key_that_cannot_sign_is_missing_and_the_command_mends_what_is_wrong_with_it() {
        let judged = |spec: KeySpec, usage: KeyUsageType, state: KeyState| {
            let key = KeyMetadata::builder().key_id("x").key_spec(spec).key_usage(usage).key_state(state).build();
            judge("log key", "ARN", Some(&key.expect("a key"))).mend
        };
        let (ed25519, signs) = (KeySpec::EccNistEdwards25519, KeyUsageType::SignVerify);
        let created = Some(CREATE.to_owned());
        assert_eq!(judged(ed25519.clone(), signs.clone(), KeyState::Enabled), None);
        assert_eq!(judged(KeySpec::EccNistP256, signs.clone(), KeyState::Enabled), created);
        assert_eq!(judged(ed25519.clone(), KeyUsageType::KeyAgreement, KeyState::Enabled), created);
        let enabled = judged(ed25519.clone(), signs.clone(), KeyState::Disabled);
        assert_eq!(enabled.as_deref(), Some("aws kms enable-key --key-id ARN"));
        let kept = judged(ed25519, signs, KeyState::PendingDeletion);
        assert!(kept.is_some_and(|mend| mend.starts_with("aws kms cancel-key-deletion")));
    }
}
