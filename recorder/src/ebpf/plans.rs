//! What the programs do with each covered call: made from the one table of calls.

use agentrec_recorder_ebpf::{
    ANY, MAX_ADDRESS, MAX_CONTROL, Piece, Plan, TEXT, piece, role, tells,
};

use crate::calls::memory::Word;
use crate::calls::shape::{Arg, Buffers, Shape, Times};
use crate::calls::table::{Row, When};

/// The programs that a call's tracepoints get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Hooks {
    /// `sys_enter_…` gets `closing`.
    pub(super) closes: bool,
    /// `sys_enter_…` gets `replacing`.
    pub(super) replaces: bool,
    /// `sys_exit_…` gets `call_over`.
    pub(super) over: bool,
    /// `sys_exit_…` gets `transfer_over`.
    pub(super) transfer: bool,
    /// `sys_exit_…` gets `mapped`.
    pub(super) maps: bool,
}

/// `sizeof(struct mmsghdr)`.
const MMSGHDR: u32 = 64;

/// The plan of a row; None for what this engine has no need to see: it takes no part in what the process does, so that
/// neither tracing nor sets of CPUs are its business.
pub(super) fn plan(row: &Row) -> Option<(Plan, Hooks)> {
    let over = Hooks { over: true, ..Hooks::default() };
    let transfer = Hooks { transfer: true, ..Hooks::default() };
    let mut list = 0;
    let (role, hooks) = match row.shape {
        Shape::Affinity | Shape::Ptrace | Shape::Clone | Shape::Clone3 => return None,
        Shape::Close => (role::TELL, Hooks { closes: true, ..Hooks::default() }),
        // Both: what went through the one that is replaced is told before, what becomes of it after.
        Shape::Dup2 | Shape::Dup3 => (role::TELL, Hooks { replaces: true, ..over }),
        Shape::Mmap => (role::TELL, Hooks { maps: true, ..over }),
        Shape::CloseRange => (role::EPOCH, over),
        Shape::Open { .. }
        | Shape::Creat { .. }
        | Shape::OpenHow { .. }
        | Shape::OpenHandle { .. } => (role::OPEN, over),
        Shape::Exec { argv, .. } => {
            list = argv;
            (role::FAILURE, over)
        }
        Shape::Read { buffers: Buffers::Vector(..) } => (role::READ_VECTOR, transfer),
        Shape::Read { .. } => (role::READ, transfer),
        Shape::Write { buffers: Buffers::Vector(..) } => (role::WRITE_VECTOR, transfer),
        Shape::SpliceMemory => (role::WRITE_VECTOR, transfer),
        Shape::Receive { message: None, .. } => (role::READ, transfer),
        Shape::Receive { .. } => (role::READ_MESSAGE, Hooks { over: true, ..transfer }),
        Shape::Write { buffers } => {
            let beside = matches!(buffers, Buffers::To { .. } | Buffers::Message(_));
            let is_message = matches!(buffers, Buffers::Message(_));
            let role = if is_message { role::WRITE_MESSAGE } else { role::WRITE };
            (role, Hooks { over: beside, ..transfer })
        }
        _ => (role::TELL, over),
    };
    let tells = match row.shape {
        Shape::Chdir { .. } => tells::CWD,
        Shape::Chroot { .. }
        | Shape::PivotRoot
        | Shape::SetNs
        | Shape::Unshare
        | Shape::Mount
        | Shape::Umount { .. }
        | Shape::MoveMount { .. } => tells::CWD | tells::ROOT,
        Shape::Open { .. } | Shape::OpenHow { .. } => tells::DIRECTORY,
        Shape::OpenHandle { .. } => tells::OPENED,
        Shape::Messages { .. } => tells::MESSAGES,
        Shape::Connect | Shape::Bind | Shape::Listen => tells::SOCKET,
        Shape::Accept { .. } => tells::ACCEPTED,
        _ => 0,
    };
    let peek = match row.shape {
        Shape::Receive { flags, .. } => flags,
        _ => ANY,
    };
    let (pieces, peek) = (pieces(row), peek.into());
    let mut plan = Plan { role, list, when: ANY, tells, peek, pieces, ..Plan::default() };
    match row.when {
        When::Always | When::NotReserved(_) => {}
        When::Is(arg, values) => {
            plan.when = arg;
            plan.values_used = values.len() as u8;
            plan.values[..values.len()].copy_from_slice(values);
        }
        When::Has(arg, bits) => (plan.when, plan.bits) = (arg, bits),
    }
    Some((plan, hooks))
}

/// What the call points to, in the order in which [`Entry`](crate::calls::decode::Entry) reads it.
fn pieces(row: &Row) -> [Piece; 3] {
    let of = |kind, arg, len_arg, len| Piece { kind, arg, len_arg, reserved: 0, len };
    let text = |arg: Arg| of(piece::TEXT, arg, 0, TEXT as u32);
    let fixed = |arg: Arg, len: u64| Some(of(piece::FIXED, arg, 0, len as u32));
    let sized = |arg: Arg, len: Arg, most: u32| Some(of(piece::SIZED, arg, len, most));
    let via = |arg: Arg, offset: u8, most: u32| of(piece::VIA, arg, offset, most);
    let block = match row.shape {
        Shape::OpenHow { how, size, .. } => sized(how, size, 24),
        Shape::Ioctl => fixed(2, 8),
        Shape::Connect | Shape::Bind => sized(1, 2, MAX_ADDRESS),
        Shape::Write { buffers: Buffers::To { address, len, .. } } => {
            sized(address, len, MAX_ADDRESS)
        }
        Shape::Accept { .. } => Some(of(piece::AT, 1, 2, MAX_ADDRESS)),
        Shape::SocketPair => fixed(3, 8),
        Shape::Utime { times, form, .. } => {
            let words = if form == Times::Seconds { 2 } else { 4 };
            fixed(times, words * Word::Eight.size())
        }
        Shape::SetXattrAt { args, .. } => fixed(args, 16),
        Shape::MountSetAttr { attr, .. } => fixed(attr, 8),
        Shape::Messages { .. } => Some(of(piece::COUNTED, 1, 0, MMSGHDR)),
        Shape::Write { buffers: Buffers::Message(header) } => {
            // Name and control data (recvmsg(2), struct msghdr).
            return [via(header, 0, MAX_ADDRESS), via(header, 32, MAX_CONTROL), Piece::default()];
        }
        Shape::Receive { message: Some(header), .. } => Some(via(header, 32, MAX_CONTROL)),
        _ => None,
    };
    let texts = row.shape.names().into_iter().flatten().map(text);
    let mut all = texts.chain(block);
    [(); 3].map(|()| all.next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::table::TABLE;

    #[test]
    fn no_call_points_to_more_than_a_plan_holds() {
        for row in TABLE {
            let names = row.shape.names().iter().flatten().count();
            let Some((plan, _)) = plan(row) else { continue };
            let used = plan.pieces.iter().filter(|piece| piece.kind != piece::NONE).count();
            assert!(used >= names, "{}", row.name);
            assert!(usize::from(plan.values_used) <= plan.values.len(), "{}", row.name);
            assert!((row.number as u32) < agentrec_recorder_ebpf::PLANS, "{}", row.name);
        }
    }
}
