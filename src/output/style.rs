//! Colours, as a handful of meanings instead of numbers.

use std::env;
use std::fmt::{self, Display};

use super::ColorChoice;

/// What a piece of text means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// What the eye should find first.
    Strong,
    /// What can be skipped.
    Dim,
    /// Added; worked.
    Good,
    /// Removed; failed.
    Bad,
    /// Changed; take care.
    Warn,
    /// Addresses that can be typed.
    Address,
}

impl Style {
    fn sgr(self) -> &'static str {
        match self {
            Self::Strong => "1",
            Self::Dim => "2",
            Self::Good => "32",
            Self::Bad => "31",
            Self::Warn => "33",
            Self::Address => "36",
        }
    }
}

/// Colours text, or leaves it.
#[derive(Clone, Copy, Debug)]
pub struct Paint {
    enabled: bool,
}

impl Paint {
    /// As `choice` says for a stream that is a terminal or not.
    pub fn new(choice: ColorChoice, terminal: bool) -> Self {
        let enabled = match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            // https://no-color.org: set and not empty.
            ColorChoice::Auto => terminal && env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
        };
        Self { enabled }
    }

    /// `text` in `style`.
    pub fn apply<T: Display>(self, style: Style, text: T) -> Painted<T> {
        Painted { style: self.enabled.then_some(style), text }
    }

    /// For a heading or a name.
    pub fn strong<T: Display>(self, text: T) -> Painted<T> {
        self.apply(Style::Strong, text)
    }

    /// For what can be skipped.
    pub fn dim<T: Display>(self, text: T) -> Painted<T> {
        self.apply(Style::Dim, text)
    }

    /// For what can be typed as an address.
    pub fn address<T: Display>(self, text: T) -> Painted<T> {
        self.apply(Style::Address, text)
    }
}

/// Text with its style; padding in a format string goes to the text, not to the escape sequences.
pub struct Painted<T> {
    style: Option<Style>,
    text: T,
}

impl<T: Display> Display for Painted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.style {
            None => self.text.fmt(f),
            Some(style) => {
                write!(f, "\x1b[{}m", style.sgr())?;
                self.text.fmt(f)?;
                f.write_str("\x1b[0m")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_counts_text_only() {
        let paint = Paint::new(ColorChoice::Always, false);
        assert_eq!(format!("{:<4}|", paint.dim("ab")), "\x1b[2mab  \x1b[0m|");
        let plain = Paint::new(ColorChoice::Never, true);
        assert_eq!(format!("{:<4}|", plain.dim("ab")), "ab  |");
    }
}
