//! `agentrec graph`: what led to what, as a tree, for Graphviz, or as objects.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};

use agentrec_trace::event::Certainty;
use agentrec_trace::{Data, Reader};
use anyhow::{Result, bail};
use serde_json::json;

use crate::address::{Address, Place};
use crate::baseline::Baseline;
use crate::digest::{Digest, Edge, Graph, How, Node};
use crate::exit::Exit;
use crate::output::{Output, Style, command_line, fit, json, printable_line, relative};
use crate::session::{self, Context};
use crate::view::{arguments, call_address, certainty, net_style, peer, process_exit};

/// Arguments of `agentrec graph`.
#[derive(clap::Args)]
pub struct Args {
    /// The session (default: this directory's last)
    trace: Option<Address>,
    /// Only what led there: t5, p7, #1234
    #[arg(long, value_name = "ADDRESS")]
    to: Option<Address>,
    /// As input for Graphviz: agentrec graph --dot | dot -Tsvg -o graph.svg
    #[arg(long)]
    dot: bool,
}

/// Carries it out.
pub fn run(args: &Args, context: Context) -> Result<Exit> {
    let address = args.trace.as_ref().or(args.to.as_ref()).unwrap_or(&Address::LAST);
    let opened = session::open(address)?;
    let digest = session::analyse(&opened.reader)?;
    let store = session::store();
    let baseline = Baseline::new(&opened.reader, store.as_ref(), &digest);
    let mut graph = Graph::new(&digest, |path| baseline.existed(path));
    let to = args.to.as_ref().and_then(|to| to.place.as_ref()).or(opened.place.as_ref());
    if let Some(place) = to {
        graph = graph.leading_to(nodes(&opened.reader, &digest, place)?);
    }
    let mut out = Output::paged(context.preferences);
    let view = View { reader: &opened.reader, digest: &digest };
    if context.preferences.json {
        for edge in &graph.edges {
            out.json_line(&view.line(edge))?;
        }
    } else if args.dot {
        view.dot(&mut out, &graph)?;
    } else {
        view.tree(&mut out, &graph)?;
    }
    out.finish()?;
    Ok(Exit::OK)
}

/// The nodes that a place stands for.
fn nodes(reader: &Reader, digest: &Digest, place: &Place) -> Result<Vec<Node>> {
    if let Some(turns) = session::turns(digest, place)? {
        return Ok(turns.into_iter().map(|turn| Node::Turn(turn.label.clone())).collect());
    }
    match place {
        Place::Process(id) if digest.processes.get(*id).is_some() => Ok(vec![Node::Process(*id)]),
        Place::Event(seq) => {
            let Some(event) = reader.event(*seq)? else {
                bail!("cannot find {seq}: the trace has {} events", reader.len())
            };
            let call =
                digest.calls.iter().find(|call| call.seq == *seq || call.result_seq == Some(*seq));
            let turn = || digest.turns.of_event(&event).map(|turn| Node::Turn(turn.label.clone()));
            let process = || match &event.data {
                Data::ProcessFork(fork) => Some(Node::Process(fork.child)),
                _ => event.proc.map(Node::Process),
            };
            match call.map(|call| Node::Call(call.seq)).or_else(turn).or_else(process) {
                Some(node) => Ok(vec![node]),
                None => bail!("cannot tell what led to {seq}: it belongs to no process or turn"),
            }
        }
        _ => {
            bail!("cannot tell what led to {place}: it is no turn, process or event of this trace")
        }
    }
}

struct View<'d> {
    reader: &'d Reader,
    digest: &'d Digest,
}

impl View<'_> {
    /// What a node is called, and what there is to say of it.
    fn name(&self, node: &Node) -> (String, String) {
        match node {
            Node::Turn(label) => {
                let turn = self.digest.turns.get(label);
                let model = turn.map_or("", |turn| &turn.model);
                (label.to_string(), printable_line(model.as_bytes()))
            }
            Node::Call(seq) => {
                let call = self.digest.calls.iter().find(|call| call.seq == *seq);
                let text = call.map_or(String::new(), |call| {
                    let given = self.reader.payload(&call.arguments);
                    let given = given.map(|value| arguments(&value)).unwrap_or_default();
                    format!("{} {}", printable_line(call.name.as_bytes()), fit(&given, 50))
                });
                (call_address(self.digest, *seq), text.trim_end().to_owned())
            }
            Node::Process(id) => {
                let argv = self.digest.processes.argv(*id);
                let fork = if self.digest.processes.executed(*id) { "" } else { "(fork of) " };
                (id.to_string(), format!("{fork}{}", fit(&command_line(argv), 60)))
            }
            Node::File(path) => (relative(path, self.digest.cwd()), String::new()),
            Node::Host(host) => (peer(host), String::new()),
        }
    }

    /// A name that no other node has.
    fn id(&self, node: &Node) -> String {
        match node {
            Node::Call(seq) => seq.to_string(),
            Node::File(path) => format!("file {}", printable_line(path)),
            Node::Host(_) => format!("host {}", self.name(node).0),
            Node::Turn(_) | Node::Process(_) => self.name(node).0,
        }
    }

    fn line(&self, edge: &Edge) -> serde_json::Value {
        let node = |node: &Node| {
            let (name, text) = self.name(node);
            match node {
                Node::Turn(_) => json!({ "kind": "turn", "turn": name }),
                Node::Call(seq) => json!({ "kind": "call", "seq": seq, "text": text }),
                Node::Process(id) => json!({ "kind": "process", "proc": id, "text": text }),
                Node::File(path) => json!({ "kind": "file", "path": json::bytes(path) }),
                Node::Host(_) => json!({ "kind": "host", "peer": name }),
            }
        };
        json!({
            "kind": "edge",
            "from": node(&edge.from),
            "to": node(&edge.to),
            "how": edge.how.as_str(),
            "certainty": certainty(edge.certainty),
            "ambiguous": edge.ambiguous,
        })
    }

    fn dot(&self, out: &mut Output, graph: &Graph) -> io::Result<()> {
        let quoted =
            |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
        writeln!(out, "digraph agentrec {{")?;
        writeln!(out, "  rankdir=LR; node [shape=box, fontname=monospace];")?;
        let mut told = HashSet::new();
        for node in graph.edges.iter().flat_map(|edge| [&edge.from, &edge.to]) {
            if told.insert(node) {
                let (name, text) = self.name(node);
                let label = format!("{name} {text}");
                let shape = match node {
                    Node::Turn(_) => "oval",
                    Node::Call(_) | Node::Process(_) => "box",
                    Node::File(_) => "note",
                    Node::Host(_) => "hexagon",
                };
                writeln!(
                    out,
                    "  {} [label={}, shape={shape}];",
                    quoted(&self.id(node)),
                    quoted(label.trim())
                )?;
            }
        }
        for edge in &graph.edges {
            let style = match (edge.certainty, edge.ambiguous) {
                (_, true) => ", style=dotted",
                (Certainty::Inferred, _) => ", style=dashed",
                (Certainty::Recorded, _) => "",
            };
            let (from, to) = (quoted(&self.id(&edge.from)), quoted(&self.id(&edge.to)));
            writeln!(out, "  {from} -> {to} [label={}{style}];", quoted(edge.how.as_str()))?;
        }
        writeln!(out, "}}")
    }

    fn tree(&self, out: &mut Output, graph: &Graph) -> io::Result<()> {
        let mut below: HashMap<&Node, Vec<&Edge>> = HashMap::new();
        let mut leads: HashSet<&Node> = HashSet::new();
        for edge in &graph.edges {
            below.entry(&edge.from).or_default().push(edge);
            leads.insert(&edge.to);
        }
        let mut tree = Tree { view: self, below, told: HashSet::new() };
        // Turns stand at the margin, in their order; so does what nothing led to.
        let turns = self.digest.turns.iter().map(|turn| Node::Turn(turn.label.clone()));
        let tops: Vec<Node> = graph
            .edges
            .iter()
            .map(|edge| &edge.from)
            .filter(|node| !leads.contains(node) && !matches!(node, Node::Turn(_)))
            .cloned()
            .chain(turns.filter(|turn| tree.below.contains_key(turn) || leads.contains(turn)))
            .collect();
        for top in &tops {
            if tree.told.insert(top.clone()) {
                let (name, text) = self.name(top);
                writeln!(out, "{} {text}{}", out.paint.address(&name), self.end(out, top))?;
                tree.branches(out, top)?;
            }
        }
        if tops.is_empty() {
            eprintln!("agentrec: nothing led there");
        }
        Ok(())
    }

    /// An edge and where it leads, on a line.
    fn edge(&self, out: &mut Output, before: &str, edge: &Edge) -> io::Result<()> {
        let paint = out.paint;
        let (name, text) = self.name(&edge.to);
        let name = match edge.how {
            How::Changes(net) => {
                paint.apply(net_style(net), format_args!("{} {name}", net.sign())).to_string()
            }
            How::Connects => format!("connects {name}"),
            How::Result | How::Then | How::SubAgent => {
                format!("{} {}", edge.how.as_str(), paint.address(&name))
            }
            How::Calls | How::Starts => paint.address(&name).to_string(),
        };
        let doubt = match (edge.ambiguous, edge.certainty) {
            (true, _) => paint.apply(Style::Warn, "  (ambiguous)").to_string(),
            (_, Certainty::Inferred) => paint.dim("  (inferred)").to_string(),
            (_, Certainty::Recorded) => String::new(),
        };
        // A turn has its place at the margin, and is told there.
        let text = if matches!(edge.to, Node::Turn(_)) { "" } else { &text };
        let line = format!("{before}{name} {text}");
        writeln!(out, "{}{}{doubt}", line.trim_end(), self.end(out, &edge.to))
    }

    /// How a process ended, where not well.
    fn end(&self, out: &Output, node: &Node) -> String {
        let Node::Process(id) = node else { return String::new() };
        let exit = self.digest.processes.get(*id).and_then(|process| process.exit);
        match exit {
            Some(exit) if exit.code == Some(0) => String::new(),
            exit => format!("  {}", process_exit(out.paint, exit, 0)),
        }
    }
}

struct Tree<'v> {
    view: &'v View<'v>,
    below: HashMap<&'v Node, Vec<&'v Edge>>,
    told: HashSet<Node>,
}

/// Levels that are indented; what is deeper stands below each other.
const MAX_INDENT: usize = 40;

impl Tree<'_> {
    /// What a node led to. A chain of processes can be long: no recursion.
    fn branches(&mut self, out: &mut Output, top: &Node) -> io::Result<()> {
        let edges = |node: &Node| self.below.get(node).cloned().unwrap_or_default().into_iter();
        let mut open = vec![edges(top)];
        // Of each level that is open, whether more follows on it.
        let mut indent: Vec<&str> = Vec::new();
        while let Some(level) = open.last_mut() {
            let Some(edge) = level.next() else {
                open.pop();
                indent.pop();
                continue;
            };
            let is_last = level.len() == 0;
            let mark = if is_last { "└ " } else { "├ " };
            let before: String = indent.iter().take(MAX_INDENT).copied().collect();
            self.view.edge(out, &format!("{before}{mark}"), edge)?;
            let goes_on = matches!(edge.to, Node::Call(_) | Node::Process(_));
            if goes_on && self.told.insert(edge.to.clone()) {
                indent.push(if is_last { "  " } else { "│ " });
                open.push(edges(&edge.to));
            }
        }
        Ok(())
    }
}
