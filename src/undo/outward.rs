//! What of a span can't be taken back: it left the machine, or goes on.

use std::collections::{HashMap, HashSet};

use agentrec_trace::{Data, Reader, Seq};
use anyhow::Result;

use super::Acts;
use crate::audit::{Audit, Rules, WorkingTree};
use crate::session;

/// Something that was done once and for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outward {
    /// The first event.
    pub seq: Seq,
    /// Of which kind: `pushes to another repository`.
    pub kind: &'static str,
    /// The command line, or the request.
    pub what: String,
    /// How often.
    pub times: u64,
}

/// What the acts did that can't be taken back, in order. Requests to models are the conversation itself and don't count.
pub fn outward(reader: &Reader, acts: &Acts, session: &str) -> Result<Vec<Outward>> {
    let rules = Rules::default();
    let tree = WorkingTree { roots: Vec::new(), is_secret: &|_| false, link: &|_| None };
    let mut audit = Audit::new(&rules, tree, session);
    let mut requests: HashMap<Seq, String> = HashMap::new();
    let mut to_models: HashSet<String> = HashSet::new();
    let (from, to) = acts.window;
    let mut begun = false;
    let mut over = None;
    session::each_event(reader, |event| {
        match &event.data {
            Data::HttpRequest(request) => {
                let url = request.url.split(['?', '#']).next().unwrap_or_default();
                requests.insert(event.seq, format!("{} {url}", request.method));
            }
            Data::ModelRequest(model) => {
                let sent = model.request.and_then(|request| requests.remove(&request));
                to_models.extend(sent);
            }
            _ => {}
        }
        if !begun && event.seq >= from {
            // What was before only says who is who.
            begun = true;
            drop(std::mem::take(&mut audit.irrevocable));
        }
        if over.is_none() && to.is_some_and(|to| event.seq >= to) {
            over = Some(std::mem::take(&mut audit.irrevocable));
        }
        if over.is_none() {
            audit.add(event);
        }
    })?;
    let found = over.unwrap_or_else(|| std::mem::take(&mut audit.irrevocable));
    let mut all: Vec<_> = found
        .iter()
        .filter(|((_, what), _)| !to_models.contains(what))
        .filter(|(_, item)| match &acts.procs {
            Some(procs) => item.by.keys().any(|proc| procs.contains(proc)),
            None => true,
        })
        .map(|((kind, what), item)| Outward {
            seq: item.first,
            kind,
            what: what.clone(),
            times: item.times,
        })
        .collect();
    all.sort_by_key(|outward| outward.seq);
    Ok(all)
}
