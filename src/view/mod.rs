//! How an analysed trace is shown: the header, the folded screen, the flat timeline.

mod audit;
pub mod changes;
mod describe;
mod folded;
mod hands;
mod header;
pub mod json;
mod lines;
mod timeline;
mod values;

pub use audit::Report;
pub use describe::{
    by, call_address, certainty, exit_text, how_sure, net_style, peer, process_exit, server,
};
pub use folded::{Folded, Limits};
pub use hands::{Hands, hands_in_words};
pub use header::header;
pub use timeline::Timeline;
pub use values::{arguments, text_of};
