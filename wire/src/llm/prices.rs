//! What tokens cost: a table that users may edit.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;
use toml::Spanned;

use super::dialect::Tokens;

/// The table that this version was made with.
const DEFAULT: &str = include_str!("prices.toml");

/// Prices of models, by their names.
#[derive(Clone, Debug, PartialEq)]
pub struct Prices {
    models: BTreeMap<String, Price>,
}

/// A price list can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct PriceError {
    /// Which line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub problem: String,
}

/// US dollars for a million tokens.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Price {
    input: f64,
    output: f64,
    /// Default: as other input.
    cache_read: Option<f64>,
    /// Default: as other input.
    cache_write: Option<f64>,
    /// Written to be kept for an hour. Default: as `cache_write`.
    cache_write_1h: Option<f64>,
    /// What holds for all tokens of a request with a longer prompt.
    long: Option<Box<Long>>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Long {
    /// Input tokens that a prompt may have before this holds.
    over: u64,
    input: f64,
    output: f64,
    cache_read: Option<f64>,
    cache_write: Option<f64>,
    cache_write_1h: Option<f64>,
}

impl Default for Prices {
    fn default() -> Self {
        static READ: LazyLock<Prices> = LazyLock::new(|| {
            Prices::parse(DEFAULT).expect("the embedded table is sound: a test reads it")
        });
        READ.clone()
    }
}

impl Prices {
    /// Reads a table: `[model."NAME"]` with `input`, `output`, `cache_read`, `cache_write`, `cache_write_1h`, and `long`
    /// for longer prompts. A name stands for itself and its dated versions; one that ends in `*` for all that begin so.
    pub fn parse(text: &str) -> Result<Self, PriceError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            #[serde(default)]
            model: BTreeMap<String, Spanned<Price>>,
        }
        let line = |at: usize| {
            1 + text.as_bytes()[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count()
        };
        let table: Table = toml::from_str(text).map_err(|error| PriceError {
            line: line(error.span().map_or(0, |span| span.start)),
            problem: error.message().trim().replace('\n', ", "),
        })?;
        let mut models = BTreeMap::new();
        for (name, price) in table.model {
            let at = line(price.span().start);
            let price = price.into_inner();
            if let Some(problem) = price.problem() {
                return Err(PriceError { line: at, problem: format!("`{name}`: {problem}") });
            }
            models.insert(name.to_ascii_lowercase(), price);
        }
        Ok(Self { models })
    }

    /// The same with another table's prices put before its own.
    #[must_use]
    pub fn overridden_by(mut self, other: Self) -> Self {
        self.models.extend(other.models);
        self
    }

    /// What a model's tokens cost, in US dollars; nothing where its price is not known.
    pub(super) fn cost(&self, model: &str, tokens: &Tokens) -> Option<f64> {
        let price = self.find(model)?;
        let (input, output, read, write, write_long) = price.for_prompt(tokens.input);
        let cached = tokens.cache_read.saturating_add(tokens.cache_write);
        let long = tokens.cache_write_long.min(tokens.cache_write);
        let charges = [
            (tokens.input.saturating_sub(cached), input),
            (tokens.cache_read, read),
            (tokens.cache_write - long, write),
            (long, write_long),
            (tokens.output, output),
        ];
        Some(charges.iter().map(|(count, price)| *count as f64 * price).sum::<f64>() / 1e6)
    }

    /// The longest name that the model's begins with, where the rest of it is only a version.
    fn find(&self, model: &str) -> Option<&Price> {
        let model = model.to_ascii_lowercase();
        // `anthropic/claude-…` of a router, `us.anthropic.claude-…` of Bedrock.
        let bare = model.rsplit('/').next().unwrap_or(&model);
        let bare = bare.rsplit_once("anthropic.").map_or(bare, |(_, name)| name);
        [&*model, bare].iter().find_map(|name| {
            let fits = |(known, _): &(&String, &Price)| match known.strip_suffix('*') {
                Some(prefix) => name.starts_with(prefix),
                None => name.strip_prefix(known.as_str()).is_some_and(is_version),
            };
            let fitting = self.models.iter().filter(fits);
            fitting
                .max_by_key(|(known, _)| known.trim_end_matches('*').len())
                .map(|(_, price)| price)
        })
    }
}

/// Whether what follows a model's name names one of its versions: a date, a number, `latest`.
fn is_version(rest: &str) -> bool {
    let Some(rest) = rest.strip_prefix(['-', '@', ':']) else { return rest.is_empty() };
    let mut words = rest.split(['-', '@', ':']).peekable();
    let is_number = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    // A single digit would be another model: `claude-opus-4` is not `claude-opus-4-5`.
    let first = words.peek().copied().unwrap_or_default();
    if is_number(first) && first.len() < 3 {
        return false;
    }
    words.all(|word| {
        is_number(word) || word == "latest" || word.strip_prefix('v').is_some_and(is_number)
    })
}

impl Price {
    fn problem(&self) -> Option<&'static str> {
        let long = self.long.as_deref();
        let mut all = vec![
            Some(self.input),
            Some(self.output),
            self.cache_read,
            self.cache_write,
            self.cache_write_1h,
        ];
        if let Some(long) = long {
            all.extend([
                Some(long.input),
                Some(long.output),
                long.cache_read,
                long.cache_write,
                long.cache_write_1h,
            ]);
        }
        let bad = all.into_iter().flatten().any(|price| !price.is_finite() || price < 0.0);
        bad.then_some("a price must be a number that is not negative")
    }

    /// Input, output, cache read, cache write, cache write for an hour.
    fn for_prompt(&self, tokens: u64) -> (f64, f64, f64, f64, f64) {
        let of = |input: f64, output, read: Option<f64>, write: Option<f64>, hour: Option<f64>| {
            let write = write.unwrap_or(input);
            (input, output, read.unwrap_or(input), write, hour.unwrap_or(write))
        };
        match self.long.as_deref() {
            Some(long) if tokens > long.over => {
                of(long.input, long.output, long.cache_read, long.cache_write, long.cache_write_1h)
            }
            _ => {
                of(self.input, self.output, self.cache_read, self.cache_write, self.cache_write_1h)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(input: u64, cache_read: u64, cache_write: u64, output: u64) -> Tokens {
        Tokens { input, cache_read, cache_write, output, ..Tokens::default() }
    }

    #[test]
    fn the_embedded_table_is_sound() {
        let prices = Prices::default();
        assert!(prices.models.len() > 20);
        let cost = prices.cost("claude-sonnet-4-5-20250929", &tokens(1_000_000, 0, 0, 1_000_000));
        assert_eq!(cost, Some(18.0));
    }

    #[test]
    fn cached_tokens_have_their_own_prices() {
        let table = "[model.m]\ninput = 10\noutput = 50\ncache_read = 1\ncache_write = 12.5\ncache_write_1h = 20\n\
                     long = {over = 1000000, input = 20, output = 100}";
        let prices = Prices::parse(table).unwrap();
        let cost = |tokens| prices.cost("m", &tokens).unwrap();
        assert_eq!(cost(tokens(1_000_000, 500_000, 400_000, 100_000)), 1.0 + 0.5 + 5.0 + 5.0);
        let long = Tokens { cache_write_long: 400_000, ..tokens(1_000_000, 0, 400_000, 0) };
        assert_eq!(cost(long), 6.0 + 8.0);
        assert_eq!(cost(tokens(1_000_001, 1_000_001, 0, 0)), 20.00002);
        // Nonsense of a server.
        assert!(cost(tokens(1, u64::MAX, u64::MAX, u64::MAX)).is_finite());
    }

    #[test]
    fn the_longest_name_counts_and_other_models_are_unknown() {
        let table = "model.a = {input = 1, output = 0}\nmodel.a-mini = {input = 2, output = 0}\n\
                     model.'b-*' = {input = 3, output = 0}\nmodel.b-x = {input = 4, output = 0}\nmodel.'c/a' = {input = 5, output = 0}";
        let prices = Prices::parse(table).unwrap();
        for (model, cost) in [
            ("a", Some(1.0)),
            ("A-2025-08-07", Some(1.0)),
            ("a@20250101", Some(1.0)),
            ("a-latest", Some(1.0)),
            ("us.anthropic.a-20250101-v1:0", Some(1.0)),
            ("vendor/a", Some(1.0)),
            ("c/a", Some(5.0)),
            ("a-mini-2025-08-07", Some(2.0)),
            ("a-pro", None),
            ("a-5", None),
            ("a:free", None),
            ("ab", None),
            ("b-y-z", Some(3.0)),
            ("b-x", Some(4.0)),
            ("", None),
        ] {
            assert_eq!(prices.cost(model, &tokens(1_000_000, 0, 0, 0)), cost, "{model}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (table, line, problem) in [
            ("[model.m]\ninput = 1\n", 1, "missing field `output`"),
            ("[model.m]\ninput = 1\noutput = -2\n", 1, "not negative"),
            ("# x\n[model.m]\ninput = 1\noutput = 2\nprompt = 3\n", 5, "unknown field `prompt`"),
            ("\n\n[model.m\n", 3, ""),
            ("[model.m]\ninput = \"1\"\noutput = 2\n", 2, "invalid type"),
        ] {
            let error = Prices::parse(table).unwrap_err();
            assert_eq!(error.line, line, "{table:?}: {error}");
            assert!(error.problem.contains(problem), "{table:?}: {error}");
        }
    }

    #[test]
    fn a_users_table_goes_before_the_embedded_one() {
        let own = Prices::parse("model.gpt-4o = {input = 0, output = 0}").unwrap();
        let prices = Prices::default().overridden_by(own);
        assert_eq!(prices.cost("gpt-4o", &tokens(9, 0, 0, 9)), Some(0.0));
        assert!(prices.cost("gpt-4o-mini", &tokens(9, 0, 0, 9)).is_some_and(|cost| cost > 0.0));
    }
}
