//! `binplz catalogue`: a catalogue in numbers, and what it could not evaluate.

use std::fmt::Write;

use binplz_core::{
    flow::operator::{
        census::{LossGroup, Summary},
        orders::{Operator, Order},
    },
    id::key::{PinName, System},
};
use clap::Args as ClapArgs;

use crate::operate::{Common, OperateError};

/// The arguments of `binplz catalogue`.
#[derive(ClapArgs)]
pub(crate) struct Catalogue {
    /// List the attributes that could not be evaluated, by error, the most frequent first
    #[arg(long)]
    lost: bool,
    /// The pin [default: the default pin]
    #[arg(long, value_name = "NAME")]
    pin: Option<PinName>,
    /// The system [default: the deployment's]
    #[arg(long, value_name = "SYSTEM")]
    system: Option<System>,
    #[command(flatten)]
    common: Common,
}

pub(crate) async fn catalogue(Catalogue { lost, pin, system, common }: Catalogue) -> Result<(), OperateError> {
    let site = common.which.find().await?;
    let summary = site.carry_out(Order::Catalogue { pin, system }).await?.catalogue()?;
    if common.json {
        println!("{}", serde_json::json!(summary));
    } else {
        print!("{}", told(&summary, lost));
    }
    Ok(())
}

fn told(Summary { pin, nixpkgs, system, attributes, refused, lost, errors }: &Summary, list: bool) -> String {
    let buildable = attributes.saturating_sub(refused + lost);
    let mut text = format!(
        "{pin} ({nixpkgs}), {system}\n{attributes} attributes: {buildable} buildable, {refused} refused by nixpkgs, {lost} lost in {} errors\n",
        errors.len()
    );
    for LossGroup { error, count, examples } in errors.iter().filter(|_| list) {
        let more = if *count > examples.len() { ", …" } else { "" };
        let examples = examples.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        // Writing to a string does not fail.
        let _ = writeln!(text, "{count:>7}  {error}\n         {examples}{more}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_attributes_are_listed_by_error() {
        let group = |error: &str, count, examples: &[&str]| LossGroup {
            error: error.to_owned(),
            count,
            examples: examples.iter().map(|attr| attr.parse().expect("a name")).collect(),
        };
        let summary = Summary {
            pin: "unstable".parse().expect("a name"),
            nixpkgs: "ab".repeat(20).parse().expect("a commit"),
            system: System::X86_64Linux,
            attributes: 100,
            refused: 20,
            lost: 5,
            errors: vec![group("infinite recursion encountered", 4, &["a", "b", "c"]), group("x", 1, &["d"])],
        };
        let numbers = "unstable (abababababababababababababababababababab), x86_64-linux\n\
             100 attributes: 75 buildable, 20 refused by nixpkgs, 5 lost in 2 errors\n";
        assert_eq!(told(&summary, false), numbers);
        let listed = "      4  infinite recursion encountered\n         a, b, c, …\n      1  x\n         d\n";
        assert_eq!(told(&summary, true), format!("{numbers}{listed}"));
    }
}
