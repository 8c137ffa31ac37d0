//! Requirements: what a program needs beyond its own file, as far as its package's closure shows it.
//!
//! A static program may still contain store paths. The builder looks each one up in the built closure and classifies it: a
//! program that it runs, data that it reads, or a path that it only mentions. A bundle, which contains its whole
//! closure, meets all of them.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::id::text::clean_line;

/// The longest path or value, in characters.
const TEXT_MAX: usize = 256;
/// The most requirements of a program.
pub const NEEDS_MAX: usize = 8;
/// The most bytes of all of them together, so that a served row stays below 4 KB, which is one read.
const BYTES_MAX: usize = 1500;

/// A requirement of a program.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "need", rename_all = "kebab-case")]
pub enum Need {
    /// It reads data from the store.
    Data {
        /// The kind of data.
        data: Data,
        /// The store path.
        path: String,
        /// Whether the program reads the variable that can name another place for it ([`Data::variable`]).
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        settable: bool,
    },
    /// It runs a program of the store, or those in a directory.
    Program {
        /// The store path.
        path: String,
    },
    /// Its package's wrapper, which is not served, sets a variable.
    Variable {
        /// The variable's name.
        name: String,
        /// Its value; empty to unset it.
        value: String,
    },
}

/// A kind of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Data {
    /// Descriptions of terminals.
    Terminfo,
    /// The file types of libmagic.
    Magic,
    /// Certificates of certificate authorities.
    Certificates,
    /// Fonts.
    Fonts,
    /// Other files: a runtime directory, a configuration.
    Files,
}

impl Data {
    /// All kinds.
    pub const ALL: [Data; 5] = [Data::Terminfo, Data::Magic, Data::Certificates, Data::Fonts, Data::Files];

    /// The name in the header `X-Binplz-Needs`.
    pub fn name(self) -> &'static str {
        match self {
            Data::Terminfo => "terminfo",
            Data::Magic => "magic",
            Data::Certificates => "certificates",
            Data::Fonts => "fonts",
            Data::Files => "files",
        }
    }

    /// The variable by which programs take such data from elsewhere, and where Linux distributions have it: Debian,
    /// Alpine and Arch agree on these paths or link to them; Debian has the usual terminals in `/lib/terminfo`.
    pub fn variable(self) -> Option<(&'static str, &'static str)> {
        match self {
            Data::Terminfo => Some(("TERMINFO_DIRS", "/usr/share/terminfo:/lib/terminfo")),
            Data::Magic => Some(("MAGIC", "/usr/share/misc/magic.mgc")),
            Data::Certificates => Some(("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")),
            Data::Fonts | Data::Files => None,
        }
    }
}

impl Need {
    /// The same with all foreign text sanitised.
    fn cleaned(self) -> Need {
        let clean = |text: String| clean_line(&text, TEXT_MAX);
        match self {
            Need::Data { data, path, settable } => Need::Data { data, path: clean(path), settable },
            Need::Program { path } => Need::Program { path: clean(path) },
            Need::Variable { name, value } => Need::Variable { name: clean(name), value: clean(value) },
        }
    }

    /// The name in the header `X-Binplz-Needs`.
    pub fn name(&self) -> &'static str {
        match self {
            Need::Data { data, .. } => data.name(),
            Need::Program { .. } => "program",
            Need::Variable { .. } => "variable",
        }
    }

    /// The store path, if it is about one.
    pub fn path(&self) -> Option<&str> {
        match self {
            Need::Data { path, .. } | Need::Program { path } => Some(path),
            Need::Variable { .. } => None,
        }
    }

    /// The assignment for the program's environment that meets it, if one is known: `NAME=VALUE`.
    pub fn remedy(&self) -> Option<String> {
        match self {
            Need::Data { data, settable: true, .. } => data.variable().map(|(name, value)| format!("{name}={value}")),
            Need::Data { .. } | Need::Program { .. } => None,
            Need::Variable { name, value } => Some(format!("{name}={value}")),
        }
    }

    fn sentence(&self) -> String {
        let place = self.path().map(shown).unwrap_or_default();
        let sentence = match self {
            Need::Data { data: Data::Terminfo, .. } => "it needs terminfo".to_owned(),
            Need::Data { data: Data::Certificates, .. } => "it needs certificates".to_owned(),
            Need::Data { data: Data::Magic, .. } => "it needs a magic file".to_owned(),
            Need::Data { data: Data::Fonts, .. } => format!("it needs fonts that are not included ({place})"),
            Need::Data { data: Data::Files, .. } => format!("it needs files that are not included ({place})"),
            Need::Program { .. } => format!("it runs programs that are not included ({place})"),
            Need::Variable { .. } => "its wrapper is not included".to_owned(),
        };
        match self.remedy() {
            Some(remedy) => format!("{sentence}: set {remedy}"),
            None => sentence,
        }
    }
}

/// Requirements from a builder, sanitised; those that are too many or too long are left out.
pub fn cleaned(needs: Vec<Need>) -> Vec<Need> {
    let mut room = BYTES_MAX;
    let fits = |need: &Need| {
        let length = match need {
            Need::Data { path, .. } | Need::Program { path } => path.len(),
            Need::Variable { name, value } => name.len() + value.len(),
        };
        let left = room.checked_sub(length);
        room = left.unwrap_or(room);
        left.is_some()
    };
    needs.into_iter().map(Need::cleaned).filter(fits).take(NEEDS_MAX).collect()
}

/// A store path without the store and the hash: `vim-9.1/share/vim`.
fn shown(path: &str) -> &str {
    let name = path.trim_start_matches('/').splitn(3, '/').nth(2).unwrap_or(path);
    name.split_once('-').map_or(name, |(_, name)| name)
}

/// The value of the header `X-Binplz-Needs`: a list of structured fields (RFC 9651), such as `terminfo;path="…";set="…"`, or
/// `none`.
pub fn header(needs: &[Need]) -> String {
    if needs.is_empty() {
        return "none".to_owned();
    }
    let quoted = |text: &str| {
        let text: String = text.chars().filter(|c| matches!(c, ' '..='~')).collect();
        format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
    };
    let member = |need: &Need| {
        let mut member = need.name().to_owned();
        for (key, value) in [("path", need.path().map(str::to_owned)), ("set", need.remedy())] {
            if let Some(value) = value {
                // Writing to a string does not fail.
                let _ = write!(member, ";{key}={}", quoted(&value));
            }
        }
        member
    };
    needs.iter().map(member).collect::<Vec<_>>().join(", ")
}

/// The requirements as JSON for clients, each with its remedy.
pub fn json(needs: &[Need]) -> serde_json::Value {
    let one = |need: &Need| {
        let mut json = serde_json::json!(need);
        if let Some(remedy) = need.remedy() {
            json["remedy"] = remedy.into();
        }
        json
    };
    needs.iter().map(one).collect()
}

/// The requirements for people: "it needs terminfo: set TERMINFO_DIRS=…; it runs …". Empty if there are none.
pub fn sentence(needs: &[Need]) -> String {
    needs.iter().map(Need::sentence).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs() -> Vec<Need> {
        let path = |name: &str| format!("/nix/store/{}-{name}", "a".repeat(32));
        vec![
            Need::Data { data: Data::Terminfo, path: path("ncurses-6/share/terminfo"), settable: true },
            Need::Data { data: Data::Certificates, path: path("cacert/x.crt"), settable: false },
            Need::Data { data: Data::Files, path: path("vim-9.1/share/vim"), settable: false },
            Need::Program { path: path("git-2/libexec/git-core") },
            Need::Variable { name: "GREETING".to_owned(), value: "\"good\\".to_owned() },
        ]
    }

    #[test]
    fn the_header_is_a_list_of_structured_fields() {
        let hash = "a".repeat(32);
        assert_eq!(header(&[]), "none");
        assert_eq!(
            header(&needs()),
            format!(
                "terminfo;path=\"/nix/store/{hash}-ncurses-6/share/terminfo\";set=\"TERMINFO_DIRS=/usr/share/terminfo:/lib/terminfo\", \
                 certificates;path=\"/nix/store/{hash}-cacert/x.crt\", files;path=\"/nix/store/{hash}-vim-9.1/share/vim\", \
                 program;path=\"/nix/store/{hash}-git-2/libexec/git-core\", variable;set=\"GREETING=\\\"good\\\\\""
            )
        );
        let hostile = Need::Program { path: "/x\r\nEvil: 1\u{e9}".to_owned() };
        assert_eq!(header(&[hostile]), "program;path=\"/xEvil: 1\"");
    }

    #[test]
    fn a_remedy_is_named_only_where_the_program_heeds_it() {
        assert_eq!(sentence(&[]), "");
        assert_eq!(
            sentence(&needs()),
            "it needs terminfo: set TERMINFO_DIRS=/usr/share/terminfo:/lib/terminfo; it needs certificates; it needs files \
             that are not included (vim-9.1/share/vim); it runs programs that are not included (git-2/libexec/git-core); its \
             wrapper is not included: set GREETING=\"good\\"
        );
    }

    #[test]
    fn what_a_builder_reports_is_clean_and_short() {
        let long = |n: usize| Need::Variable { name: format!("V{n}\u{1b}[2J\n"), value: "\u{10348}".repeat(90) };
        let kept = cleaned(needs().into_iter().chain((0..100).map(long)).collect());
        assert_eq!(kept[..5], needs());
        assert!(kept.len() <= NEEDS_MAX && kept.len() > 5);
        let json = serde_json::to_string(&kept).expect("JSON");
        assert!(json.len() < 2500 && !json.contains("\\u001b") && !json.contains("\\n"), "{json}");
    }

    #[test]
    fn a_stored_requirement_is_read_back() {
        let json = serde_json::to_string(&needs()).expect("JSON");
        assert!(json.starts_with("[{\"need\":\"data\",\"data\":\"terminfo\",\"path\":"), "{json}");
        assert_eq!(serde_json::from_str::<Vec<Need>>(&json).expect("needs"), needs());
    }
}
