//! Money: amounts in millionths of a dollar, and their one form in text.

use std::{
    fmt,
    ops::{Add, Sub},
    str::FromStr,
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Millionths of a dollar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Micros(pub u64);

/// `$1.23`, rounded up to the cent.
impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            micros @ 1..10_000 => write!(f, "$0.{:04}", micros.div_ceil(100)),
            micros => {
                let cents = micros.div_ceil(10_000);
                write!(f, "${}.{:02}", cents / 100, cents % 100)
            }
        }
    }
}

/// The text is not an amount of money.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("expected an amount in dollars: 30, or 0.25")]
pub struct BadAmount;

/// Dollars, to the millionth.
impl FromStr for Micros {
    type Err = BadAmount;
    fn from_str(s: &str) -> Result<Micros, BadAmount> {
        let (whole, part) = s.split_once('.').unwrap_or((s, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(part) || part.len() > 6 {
            return Err(BadAmount);
        }
        let micros = whole.parse::<u64>().ok().and_then(|whole| whole.checked_mul(1_000_000)).ok_or(BadAmount)?;
        let part: u64 = format!("{part:0<6}").parse().map_err(|_| BadAmount)?;
        micros.checked_add(part).map(Micros).ok_or(BadAmount)
    }
}

impl Add for Micros {
    type Output = Micros;
    fn add(self, rhs: Micros) -> Micros {
        Micros(self.0.saturating_add(rhs.0))
    }
}
impl Sub for Micros {
    type Output = Micros;
    fn sub(self, rhs: Micros) -> Micros {
        Micros(self.0.saturating_sub(rhs.0))
    }
}
impl std::iter::Sum for Micros {
    fn sum<I: Iterator<Item = Micros>>(iter: I) -> Micros {
        iter.fold(Micros(0), Add::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_read_to_the_millionth_and_told_to_the_cent() {
        for (text, micros, told) in [
            ("30", 30_000_000, "$30.00"),
            ("0.25", 250_000, "$0.25"),
            ("1.000001", 1_000_001, "$1.01"),
            ("0.00045", 450, "$0.0005"),
            ("0", 0, "$0.00"),
        ] {
            assert_eq!(text.parse(), Ok(Micros(micros)), "{text}");
            assert_eq!(Micros(micros).to_string(), told);
        }
        for text in ["", ".", "1.", ".5", "-1", "1e3", "$1", "1.0000001", "99999999999999999999"] {
            assert_eq!(text.parse::<Micros>(), Err(BadAmount), "{text}");
        }
    }
}
