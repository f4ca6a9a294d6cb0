//! Which steps share a line of the folded screen, so that those which did something stand out.

use agentrec_trace::ProcId;

use crate::digest::{Process, Row, RowKind};
use crate::view::folded::Folded;

/// A line of the screen: a step, neighbours that did nothing to speak of, or neighbours that run the same program quietly, by
/// the first, and how many they are.
pub(super) enum Line {
    Step(Row),
    Idle(Vec<ProcId>),
    Alike(ProcId, u64),
}

impl Folded<'_> {
    /// The lines of the screen, in the order in which they began.
    pub(super) fn lines(&self) -> Vec<Line> {
        let mut rows = self.digest.rows(self.existed);
        if !self.limits.repeats {
            rows.retain(|row| !self.is_told_elsewhere(row));
        }
        if !self.limits.forks {
            rows.retain(|row| !self.is_idle_fork(row));
        }
        self.join_alike(self.join_idle(rows))
    }

    /// What the screen need not repeat: a system prompt, and what the model said before it called a tool, where the turn is known.
    fn is_told_elsewhere(&self, row: &Row) -> bool {
        let RowKind::Message(index) = row.kind else { return false };
        let message = &self.digest.messages[index];
        let turns = &self.digest.turns;
        let calls = turns.of_message(message.seq).is_some_and(|turn| !turn.calls.is_empty());
        !turns.is_empty() && (calls || message.role == "system")
    }

    /// A copy of the command that executed nothing and did nothing to speak of, such as a shell's subshell.
    fn is_idle_fork(&self, row: &Row) -> bool {
        let RowKind::Process(id) = row.kind else { return false };
        let subtree = self.digest.processes.subtree(id);
        let executed = subtree.iter().any(|(_, process)| !process.execs.is_empty());
        let is_root = self.digest.processes.get(id).is_some_and(|process| process.parent.is_none());
        !is_root && !executed && self.is_quiet(row)
    }

    /// Whether a process ended well, changed nothing, and talked to nobody.
    fn is_quiet(&self, row: &Row) -> bool {
        let RowKind::Process(id) = row.kind else { return false };
        let exit = self.digest.processes.get(id).and_then(|process| process.exit);
        let failed = exit.is_some_and(|exit| exit.code != Some(0));
        !failed
            && self.notable_changes(&row.effects).next().is_none()
            && self.notable_contacts(&row.effects).is_empty()
    }

    /// Whether a child of the command ended well and left nothing that the screen would tell of it.
    fn is_idle(&self, row: &Row) -> bool {
        let RowKind::Process(id) = row.kind else { return false };
        let ended_child = |process: &Process| {
            process.parent.is_some()
                && process.exit.is_some()
                && self.digest.callers(process).is_empty()
        };
        self.digest.processes.get(id).is_some_and(ended_child)
            && self.is_quiet(row)
            && self.notable_reads(&row.effects.reads).is_empty()
    }

    /// Neighbours that did nothing to speak of become one line, where there are some.
    fn join_idle(&self, rows: Vec<Row>) -> Vec<Line> {
        let mut lines = Vec::new();
        let mut idle: Vec<Row> = Vec::new();
        for row in rows {
            if self.is_idle(&row) {
                idle.push(row);
            } else {
                self.flush_idle(&mut idle, &mut lines);
                lines.push(Line::Step(row));
            }
        }
        self.flush_idle(&mut idle, &mut lines);
        lines
    }

    fn flush_idle(&self, idle: &mut Vec<Row>, lines: &mut Vec<Line>) {
        if idle.len() < self.limits.idle {
            lines.extend(idle.drain(..).map(Line::Step));
            return;
        }
        let ids = idle.drain(..).filter_map(|row| match row.kind {
            RowKind::Process(id) => Some(id),
            RowKind::Call(_) | RowKind::Message(_) => None,
        });
        lines.push(Line::Idle(ids.collect()));
    }

    /// Where there are very many processes, neighbours that are quiet and alike become one line.
    fn join_alike(&self, steps: Vec<Line>) -> Vec<Line> {
        let is_process =
            |line: &&Line| matches!(line, Line::Step(Row { kind: RowKind::Process(_), .. }));
        let many = steps.iter().filter(is_process).count() > self.limits.processes;
        let program = |id: ProcId| self.digest.processes.argv(id).first();
        let quiet = |line: &Line| match line {
            Line::Step(row) if self.is_quiet(row) => match row.kind {
                RowKind::Process(id) => Some(id),
                RowKind::Call(_) | RowKind::Message(_) => None,
            },
            _ => None,
        };
        let mut lines: Vec<Line> = Vec::new();
        for line in steps {
            let Some(next) = quiet(&line).filter(|_| many) else {
                lines.push(line);
                continue;
            };
            match lines.last_mut() {
                Some(Line::Alike(first, n)) if program(*first) == program(next) => *n += 1,
                Some(last) => match quiet(last) {
                    Some(first) if program(first) == program(next) => {
                        *last = Line::Alike(first, 2);
                    }
                    _ => lines.push(line),
                },
                None => lines.push(line),
            }
        }
        lines
    }
}
