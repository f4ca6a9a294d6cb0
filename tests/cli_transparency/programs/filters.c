/* Installs seccomp filters of its own, of every kind; says what came of it. */
#include "program.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/ioctl.h>

/* Answers one call with `action`, and lets all others through. */
static void install(unsigned number, unsigned action, unsigned flags)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, action),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof code / sizeof *code, code};
	must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	must(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program));
}

static void on_sys(int signal, siginfo_t *info, void *context)
{
	say("SIGSYS: code %d, call %d, answer %d\n", info->si_code, info->si_syscall, info->si_errno);
}

static void *opens(void *unused)
{
	tell("open in another thread", open("/dev/null", O_RDONLY));
	return NULL;
}

static void in_child(const char *name, void (*run)(void))
{
	int status;
	say("%s\n", name);
	pid_t child = must(fork());
	if (child == 0) {
		struct rlimit none = {0, 0};
		setrlimit(RLIMIT_CORE, &none);
		run();
		_exit(0);
	}
	must(waitpid(child, &status, 0));
	if (WIFEXITED(status))
		say("%s: ended with %d\n", name, WEXITSTATUS(status));
	else
		say("%s: signal %d, core %d\n", name, WTERMSIG(status), WCOREDUMP(status) != 0);
}

/* Covered calls and others, answered by the program's own filter. */
static void errors(void)
{
	install(SYS_getppid, SECCOMP_RET_ERRNO | EXDEV, 0);
	tell("getppid", getppid());
	install(SYS_rename, SECCOMP_RET_ERRNO | EPERM, 0);
	tell("rename", syscall(SYS_rename, "a", "b"));
	install(SYS_openat, SECCOMP_RET_ERRNO | ENOSYS, 0);
	tell("openat", syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDONLY));
}

static void traps(void)
{
	struct sigaction action = {.sa_sigaction = on_sys, .sa_flags = SA_SIGINFO};
	must(sigaction(SIGSYS, &action, NULL));
	install(SYS_mkdir, SECCOMP_RET_TRAP | 7, 0);
	syscall(SYS_mkdir, "made", 0700);
	install(SYS_getuid, SECCOMP_RET_TRAP | 9, 0);
	syscall(SYS_getuid);
}

static void kills(void)
{
	install(SYS_unlink, SECCOMP_RET_KILL_PROCESS, 0);
	syscall(SYS_unlink, "x");
}

static void logs(void)
{
	install(SYS_openat, SECCOMP_RET_LOG, 0);
	close(must(open("/dev/null", O_RDONLY)));
}

static void strict(void)
{
	must(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT));
	syscall(SYS_write, 1, "strict\n", 7);
	syscall(SYS_exit, 6);
}

static void strict_and_killed(void)
{
	must(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT));
	syscall(SYS_getpid);
}

static void threads(void)
{
	pthread_t thread;
	install(SYS_openat, SECCOMP_RET_ERRNO | EACCES, SECCOMP_FILTER_FLAG_TSYNC);
	must(-pthread_create(&thread, NULL, opens, NULL));
	must(-pthread_join(thread, NULL));
}

/* Another process answers, as container managers do. */
static void notified(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mkdir, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof code / sizeof *code, code};
	must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	int status, listener = must(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program));
	pid_t child = must(fork());
	if (child == 0) {
		tell("mkdir answered", syscall(SYS_mkdir, "answered", 0700));
		_exit(0);
	}
	struct seccomp_notif request = {0};
	must(ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &request));
	struct seccomp_notif_resp response = {.id = request.id, .error = -EOWNERDEAD};
	must(ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &response));
	must(waitpid(child, &status, 0));
}

int main(int argc, char **argv)
{
	if (argc > 1) {
		in_child("strict", strict);
		in_child("strict and killed", strict_and_killed);
		return 0;
	}
	in_child("errors", errors);
	in_child("traps", traps);
	in_child("kills", kills);
	in_child("logs", logs);
	in_child("threads", threads);
	in_child("notified", notified);
	say("done\n");
	return 0;
}
