/* Runs a program as a container manager does by default: the calls that docker's default profile refuses are refused
 * (docs.docker.com, "Seccomp security profiles for Docker"; for a container without added capabilities). */
#include "program.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define EQUALS(value, else_skip) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, else_skip)
#define ANSWER(error) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (error))
#define ALLOW BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

/* New namespaces of every kind (CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET). */
enum { NAMESPACES = 0x7e020000 };

static const int refused[] = {
	SYS_acct, SYS_add_key, SYS_bpf, SYS_clock_settime, SYS_delete_module, SYS_fanotify_init, SYS_finit_module,
	SYS_fsconfig, SYS_fsmount, SYS_fsopen, SYS_fspick, SYS_init_module, SYS_io_uring_enter, SYS_io_uring_register,
	SYS_io_uring_setup, SYS_kcmp, SYS_kexec_load, SYS_keyctl, SYS_mbind, SYS_mount, SYS_mount_setattr,
	SYS_move_mount, SYS_move_pages, SYS_open_by_handle_at, SYS_open_tree, SYS_perf_event_open, SYS_pidfd_getfd,
	SYS_pivot_root, SYS_process_madvise, SYS_quotactl, SYS_reboot, SYS_request_key, SYS_setdomainname,
	SYS_sethostname, SYS_setns, SYS_settimeofday, SYS_swapoff, SYS_swapon, SYS_syslog, SYS_umount2, SYS_unshare,
	SYS_userfaultfd, SYS_vhangup,
};

int main(int argc, char **argv)
{
	static struct sock_filter code[256] = {
		LOAD(nr),
		/* glibc and others then call clone(2), whose flags a filter can see. */
		EQUALS(SYS_clone3, 1),
		ANSWER(ENOSYS),
		EQUALS(SYS_clone, 4),
		LOAD(args[0]),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, NAMESPACES, 0, 1),
		ANSWER(EPERM),
		ALLOW,
		EQUALS(SYS_personality, 8),
		LOAD(args[0]),
		EQUALS(0x0, 1),
		ALLOW,
		EQUALS(0x0008, 1),
		ALLOW,
		EQUALS(0xffffffff, 1),
		ALLOW,
		ANSWER(EPERM),
	};
	int length = 0;
	while (code[length].code)
		length++;
	for (unsigned i = 0; i < sizeof refused / sizeof *refused; i++) {
		code[length++] = (struct sock_filter)EQUALS(refused[i], 1);
		code[length++] = (struct sock_filter)ANSWER(EPERM);
	}
	code[length++] = (struct sock_filter)ALLOW;
	struct sock_fprog program = {length, code};
	/* A container manager has the right to do without. */
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0) {
		must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
		must(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
	}
	must(argc > 1 ? execvp(argv[1], argv + 1) : -1);
}
