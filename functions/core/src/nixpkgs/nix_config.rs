//! Nix's settings, as `nix show-config --json` prints them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// The settings of a Nix. A setting that it does not have is false, empty and no number.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(transparent)]
pub struct NixConfig(BTreeMap<String, Setting>);

#[derive(Clone, Debug, Deserialize)]
struct Setting {
    value: Value,
}

impl NixConfig {
    /// The arguments with which `nix` prints its settings.
    pub const SHOW: [&str; 4] = ["--extra-experimental-features", "nix-command", "show-config", "--json"];

    /// Parses what Nix has printed.
    ///
    /// # Errors
    /// `serde_json`'s.
    pub fn parse(json: &str) -> Result<NixConfig, serde_json::Error> {
        serde_json::from_str(json)
    }

    fn value(&self, name: &str) -> &Value {
        self.0.get(name).map_or(&Value::Null, |setting| &setting.value)
    }

    /// Whether a setting is true.
    pub fn is(&self, name: &str) -> bool {
        *self.value(name) == Value::Bool(true)
    }

    /// The value of a setting that is text.
    pub fn text(&self, name: &str) -> &str {
        self.value(name).as_str().unwrap_or_default()
    }

    /// The value of a setting that is a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.value(name).as_u64()
    }

    /// The words of a setting that is a list.
    pub fn list(&self, name: &str) -> Vec<String> {
        let words = self.value(name).as_array().into_iter().flatten();
        words.filter_map(Value::as_str).map(str::to_owned).collect()
    }
}
