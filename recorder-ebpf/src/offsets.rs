//! What the recorder tells the programs of the running kernel.

abi! {
    /// Where the fields of the running kernel's structures are, in bytes (its BTF says).
    pub struct Offsets {
        /// `task_struct`: pid.
        pub task_pid: u32,
        /// `task_struct`: tgid.
        pub task_tgid: u32,
        /// `task_struct`: group_leader.
        pub task_group_leader: u32,
        /// `task_struct`: exit_code.
        pub task_exit_code: u32,
        /// `task_struct`: signal.
        pub task_signal: u32,
        /// `task_struct`: mm.
        pub task_mm: u32,
        /// `task_struct`: files.
        pub task_files: u32,
        /// `task_struct`: utime.
        pub task_utime: u32,
        /// `task_struct`: stime.
        pub task_stime: u32,
        /// `task_struct`: run.
        pub task_run: u32,
        /// `signal_struct`: live.
        pub signal_live: u32,
        /// `signal_struct`: flags.
        pub signal_flags: u32,
        /// `signal_struct`: exit_code.
        pub signal_exit_code: u32,
        /// `signal_struct`: maxrss.
        pub signal_maxrss: u32,
        /// `signal_struct`: utime.
        pub signal_utime: u32,
        /// `signal_struct`: stime.
        pub signal_stime: u32,
        /// `signal_struct`: run.
        pub signal_run: u32,
        /// `signal_struct`: tty.
        pub signal_tty: u32,
        /// `mm_struct`: arg_start.
        pub mm_arg_start: u32,
        /// `mm_struct`: arg_end.
        pub mm_arg_end: u32,
        /// `mm_struct`: env_start.
        pub mm_env_start: u32,
        /// `mm_struct`: env_end.
        pub mm_env_end: u32,
        /// `linux_binprm`: filename.
        pub bprm_filename: u32,
        /// `linux_binprm`: buf, the beginning of the program.
        pub bprm_buf: u32,
        /// `linux_binprm`: fdpath.
        pub bprm_fdpath: u32,
        /// `files_struct`: fdt.
        pub files_fdt: u32,
        /// `fdtable`: max_fds.
        pub fdt_max_fds: u32,
        /// `fdtable`: fd.
        pub fdt_fd: u32,
        /// `file`: inode.
        pub file_inode: u32,
        /// `file`: mode.
        pub file_mode: u32,
        /// `file`: private.
        pub file_private: u32,
        /// `inode`: mode.
        pub inode_mode: u32,
        /// `inode`: its number.
        pub inode_number: u32,
        /// `inode`: rdev.
        pub inode_rdev: u32,
        /// `inode`: i_size.
        pub inode_size: u32,
        /// `inode`: i_generation.
        pub inode_generation: u32,
        /// `inode`: i_sb.
        pub inode_sb: u32,
        /// `super_block`: s_dev.
        pub sb_dev: u32,
        /// `tty`: private_tty.
        pub tty_private_tty: u32,
        /// `tty`: lflag.
        pub tty_lflag: u32,
        /// `tty_struct`: winsize.
        pub tty_winsize: u32,
        /// `task_struct`: fs.
        pub task_fs: u32,
        /// `fs_struct`: pwd.
        pub fs_pwd: u32,
        /// `fs_struct`: root.
        pub fs_root: u32,
        /// `mm_struct`: exe_file.
        pub mm_exe_file: u32,
        /// `file`: f_path.
        pub file_path: u32,
        /// `path`: mnt.
        pub path_mnt: u32,
        /// `path`: dentry.
        pub path_dentry: u32,
        /// `dentry`: d_parent.
        pub dentry_parent: u32,
        /// `dentry`: the name of d_name.
        pub dentry_name: u32,
        /// `dentry`: what is null where it is not hashed.
        pub dentry_pprev: u32,
        /// `vfsmount`: mnt_root.
        pub vfsmount_root: u32,
        /// `mount`: mnt.
        pub mount_mnt: u32,
        /// `mount`: mnt_parent.
        pub mount_parent: u32,
        /// `mount`: mnt_mountpoint.
        pub mount_mountpoint: u32,
        /// `socket`: sk.
        pub socket_sk: u32,
        /// `socket`: type.
        pub socket_type: u32,
        /// `sock`: skc_family.
        pub sk_family: u32,
        /// `sock`: skc_state.
        pub sk_state: u32,
        /// `sock`: skc_num, its own port.
        pub sk_num: u32,
        /// `sock`: skc_dport.
        pub sk_dport: u32,
        /// `sock`: skc_cookie.
        pub sk_cookie: u32,
        /// `sock`: skc_rcv_saddr.
        pub sk_saddr: u32,
        /// `sock`: skc_daddr.
        pub sk_daddr: u32,
        /// `sock`: skc_v6_rcv_saddr; 0 where the kernel lacks it.
        pub sk_v6_saddr: u32,
        /// `sock`: skc_v6_daddr; 0 where the kernel lacks it.
        pub sk_v6_daddr: u32,
        /// `sock`: sk_peer_pid.
        pub sk_peer_pid: u32,
        /// `task_struct`: thread_pid.
        pub task_thread_pid: u32,
        /// `pid`: level.
        pub pid_level: u32,
        /// `pid`: numbers, a `struct upid` for each namespace, the initial one's first.
        pub pid_numbers: u32,
        /// `upid`: nr.
        pub upid_nr: u32,
        /// `upid`: ns.
        pub upid_ns: u32,
        /// `pid_namespace`: the inode number of its `struct ns_common`.
        pub pid_namespace_inum: u32,
        /// `unix_sock`: addr; 0 where the kernel does not tell.
        pub unix_addr: u32,
        /// `unix_sock`: peer.
        pub unix_peer: u32,
        /// `unix_address`: len.
        pub unix_address_len: u32,
        /// `unix_address`: name.
        pub unix_address_name: u32,
    }
}
