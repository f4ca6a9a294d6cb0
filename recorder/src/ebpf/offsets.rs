//! Where the fields of the running kernel's structures are: read from its BTF
//! (Documentation/bpf/btf.rst in the kernel's source), in one pass.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use agentrec_recorder_ebpf::Offsets;

use super::Error;

/// Where the kernel shows its own.
const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// The kinds of types that matter here.
const STRUCT: u32 = 4;
const UNION: u32 = 5;

/// The types of a BTF file.
struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Where each type is among `types`, by its id.
    at: Vec<usize>,
}

/// The offsets of this kernel.
pub(super) fn of_this_kernel() -> Result<Offsets, Error> {
    let data = fs::read(VMLINUX).map_err(|source| Error::Btf(Path::new(VMLINUX).into(), source))?;
    parse(&data).map_err(|name| Error::Field(name.to_owned()))
}

/// The offsets that a BTF file tells; or the name of what it lacks.
fn parse(data: &[u8]) -> Result<Offsets, &'static str> {
    let btf = Btf::new(data).ok_or("BTF header")?;
    let structs = btf.structs();
    let field = |strukt: &'static str, member: &'static str| {
        let id = structs.get(strukt.as_bytes()).ok_or(strukt)?;
        btf.member(*id, member.as_bytes(), 0).ok_or(member)
    };
    let task = |member| field("task_struct", member);
    let signal = |member| field("signal_struct", member);
    let sk = |member| {
        Ok::<_, &'static str>(field("sock", "__sk_common")? + field("sock_common", member)?)
    };
    let mm = |member| field("mm_struct", member);
    Ok(Offsets {
        task_pid: task("pid")?,
        task_tgid: task("tgid")?,
        task_group_leader: task("group_leader")?,
        task_exit_code: task("exit_code")?,
        task_signal: task("signal")?,
        task_mm: task("mm")?,
        task_files: task("files")?,
        task_utime: task("utime")?,
        task_stime: task("stime")?,
        task_run: task("se")? + field("sched_entity", "sum_exec_runtime")?,
        signal_live: signal("live")?,
        signal_flags: signal("flags")?,
        signal_exit_code: signal("group_exit_code")?,
        signal_maxrss: signal("maxrss")?,
        signal_utime: signal("utime")?,
        signal_stime: signal("stime")?,
        signal_run: signal("sum_sched_runtime")?,
        signal_tty: signal("tty")?,
        mm_arg_start: mm("arg_start")?,
        mm_arg_end: mm("arg_end")?,
        mm_env_start: mm("env_start")?,
        mm_env_end: mm("env_end")?,
        bprm_filename: field("linux_binprm", "filename")?,
        bprm_buf: field("linux_binprm", "buf")?,
        bprm_fdpath: field("linux_binprm", "fdpath")?,
        files_fdt: field("files_struct", "fdt")?,
        fdt_max_fds: field("fdtable", "max_fds")?,
        fdt_fd: field("fdtable", "fd")?,
        file_inode: field("file", "f_inode")?,
        file_mode: field("file", "f_mode")?,
        file_private: field("file", "private_data")?,
        inode_mode: field("inode", "i_mode")?,
        inode_number: field("inode", "i_ino")?,
        inode_rdev: field("inode", "i_rdev")?,
        inode_size: field("inode", "i_size")?,
        inode_generation: field("inode", "i_generation")?,
        inode_sb: field("inode", "i_sb")?,
        sb_dev: field("super_block", "s_dev")?,
        tty_private_tty: field("tty_file_private", "tty")?,
        tty_lflag: field("tty_struct", "termios")? + field("ktermios", "c_lflag")?,
        tty_winsize: field("tty_struct", "winsize")?,
        task_fs: task("fs")?,
        fs_pwd: field("fs_struct", "pwd")?,
        fs_root: field("fs_struct", "root")?,
        mm_exe_file: mm("exe_file")?,
        file_path: field("file", "f_path")?,
        path_mnt: field("path", "mnt")?,
        path_dentry: field("path", "dentry")?,
        dentry_parent: field("dentry", "d_parent")?,
        dentry_name: field("dentry", "d_name")? + field("qstr", "name")?,
        dentry_pprev: field("dentry", "d_hash")? + field("hlist_bl_node", "pprev")?,
        vfsmount_root: field("vfsmount", "mnt_root")?,
        mount_mnt: field("mount", "mnt")?,
        mount_parent: field("mount", "mnt_parent")?,
        mount_mountpoint: field("mount", "mnt_mountpoint")?,
        socket_sk: field("socket", "sk")?,
        socket_type: field("socket", "type")?,
        sk_family: sk("skc_family")?,
        sk_state: sk("skc_state")?,
        sk_num: sk("skc_num")?,
        sk_dport: sk("skc_dport")?,
        sk_cookie: sk("skc_cookie")?,
        sk_saddr: sk("skc_rcv_saddr")?,
        sk_daddr: sk("skc_daddr")?,
        sk_v6_saddr: sk("skc_v6_rcv_saddr").unwrap_or_default(),
        sk_v6_daddr: sk("skc_v6_daddr").unwrap_or_default(),
        sk_peer_pid: field("sock", "sk_peer_pid")?,
        task_thread_pid: task("thread_pid")?,
        pid_level: field("pid", "level")?,
        pid_numbers: field("pid", "numbers")?,
        upid_nr: field("upid", "nr")?,
        upid_ns: field("upid", "ns")?,
        pid_namespace_inum: field("pid_namespace", "ns")? + field("ns_common", "inum")?,
        // Unix sockets may be a module, whose types are its own.
        unix_addr: field("unix_sock", "addr").unwrap_or_default(),
        unix_peer: field("unix_sock", "peer").unwrap_or_default(),
        unix_address_len: field("unix_address", "len").unwrap_or_default(),
        unix_address_name: field("unix_address", "name").unwrap_or_default(),
    })
}

impl<'a> Btf<'a> {
    fn new(data: &'a [u8]) -> Option<Self> {
        let head = |at: usize| u32_at(data, at).map(|value| value as usize);
        let (len, types, types_len) = (head(4)?, head(8)?, head(12)?);
        let (strings, strings_len) = (head(16)?, head(20)?);
        let types = data.get(len.checked_add(types)?..)?.get(..types_len)?;
        let strings = data.get(len.checked_add(strings)?..)?.get(..strings_len)?;
        // Ids begin with 1: 0 is void.
        let mut at = vec![usize::MAX];
        let mut next = 0;
        while next < types.len() {
            at.push(next);
            let info = u32_at(types, next + 4)?;
            let count = (info & 0xffff) as usize;
            // What follows each kind's common part.
            next += 12
                + match info >> 24 & 0x1f {
                    1 | 14 | 17 => 4,
                    3 => 12,
                    STRUCT | UNION | 15 | 19 => 12 * count,
                    6 | 13 => 8 * count,
                    _ => 0,
                };
        }
        Some(Self { types, strings, at })
    }

    /// The structures with a name, by it.
    fn structs(&self) -> HashMap<&'a [u8], usize> {
        let named = |(id, &at): (usize, &usize)| {
            let info = u32_at(self.types, at.checked_add(4)?)?;
            let name = self.name(u32_at(self.types, at)?)?;
            (info >> 24 & 0x1f == STRUCT && !name.is_empty()).then_some((name, id))
        };
        self.at.iter().enumerate().filter_map(named).collect()
    }

    fn name(&self, at: u32) -> Option<&'a [u8]> {
        let rest = self.strings.get(at as usize..)?;
        rest.split(|&byte| byte == 0).next()
    }

    /// The offset of a member in bytes, also in structures without a name inside.
    fn member(&self, id: usize, wanted: &[u8], depth: u32) -> Option<u32> {
        let at = *self.at.get(id)?;
        let info = u32_at(self.types, at.checked_add(4)?)?;
        if !matches!(info >> 24 & 0x1f, STRUCT | UNION) || depth > 8 {
            return None;
        }
        (0..(info & 0xffff) as usize).find_map(|index| {
            let member = at + 12 + 12 * index;
            let name = self.name(u32_at(self.types, member)?)?;
            let offset = u32_at(self.types, member + 8)?;
            // With this bit, the upper bits are the size of a bit field.
            let offset = if info >> 31 == 1 { offset & 0x00ff_ffff } else { offset } / 8;
            match name {
                b"" => {
                    let inside = u32_at(self.types, member + 4)? as usize;
                    Some(offset + self.member(inside, wanted, depth + 1)?)
                }
                name => (name == wanted).then_some(offset),
            }
        })
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_tells_all_of_them() {
        let Ok(data) = fs::read(VMLINUX) else { return };
        let offsets = parse(&data).unwrap();
        assert_eq!(offsets.task_tgid, offsets.task_pid + 4);
        assert_eq!(offsets.mm_arg_end, offsets.mm_arg_start + 8);
    }

    #[test]
    fn what_is_no_btf_is_refused() {
        assert_eq!(parse(&[]), Err("BTF header"));
        assert_eq!(parse(&[0; 64]), Err("task_struct"));
        assert_eq!(parse(&[0xff; 64]), Err("BTF header"));
    }
}
