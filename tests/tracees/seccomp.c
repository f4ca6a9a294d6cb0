/* Has filters of its own, as browsers and services have them, and one that another thread answers for. */
#include "tracee.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <ucontext.h>

#define ANSWER(number, answer) \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1), BPF_STMT(BPF_RET | BPF_K, answer)
#define ALLOW BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
#define NUMBER BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))
#define PROGRAM(instructions) \
	{ .len = sizeof instructions / sizeof *instructions, .filter = instructions }

#ifdef __x86_64__
#define RESULT REG_RAX
#else
#define RESULT REG_EAX
#endif

static void on_trap(int signal, siginfo_t *info, void *context)
{
	(void)signal;
	(void)info;
	((ucontext_t *)context)->uc_mcontext.gregs[RESULT] = -EACCES;
}

static int listener;

static void *supervise(void *unused)
{
	struct seccomp_notif request;
	struct seccomp_notif_resp answer;
	memset(&request, 0, sizeof request);
	memset(&answer, 0, sizeof answer);
	must(ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &request));
	must(mkdir("by_supervisor", 0700));
	answer.id = request.id;
	must(ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer));
	return unused;
}

static void *supervised(void *unused)
{
	struct sock_filter instructions[] = { NUMBER, ANSWER(SYS_rmdir, SECCOMP_RET_USER_NOTIF), ALLOW };
	struct sock_fprog program = PROGRAM(instructions);
	pthread_t supervisor;
	listener = must(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
				SECCOMP_FILTER_FLAG_NEW_LISTENER, &program));
	must(-pthread_create(&supervisor, NULL, supervise, NULL));
	must(rmdir("whatever"));
	must(-pthread_join(supervisor, NULL));
	return unused;
}

int main(void)
{
	struct sigaction action = { .sa_sigaction = on_trap, .sa_flags = SA_SIGINFO };
	struct sock_filter instructions[] = {
		NUMBER,
		ANSWER(SYS_mkdir, SECCOMP_RET_ERRNO | EPERM),
		ANSWER(SYS_chmod, SECCOMP_RET_TRAP),
		ANSWER(SYS_symlink, SECCOMP_RET_KILL_PROCESS),
		ANSWER(SYS_link, SECCOMP_RET_LOG),
		/* Not for our tracer: without one these are ENOSYS. */
		ANSWER(SYS_getppid, SECCOMP_RET_TRACE),
		ANSWER(SYS_creat, SECCOMP_RET_TRACE | 3),
		ALLOW,
	};
	struct sock_fprog program = PROGRAM(instructions);
	pthread_t thread;
	must(-pthread_create(&thread, NULL, supervised, NULL));
	must(-pthread_join(thread, NULL));
	must(sigaction(SIGSYS, &action, NULL));
	must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	must(syscall(SYS_prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0));
	must(open("file", O_WRONLY | O_CREAT, 0600));
	fails(syscall(SYS_mkdir, "answered", 0700), EPERM);
	fails(syscall(SYS_chmod, "file", 0600), EACCES);
	must(syscall(SYS_link, "file", "logged"));
	fails(syscall(SYS_getppid), ENOSYS);
	fails(syscall(SYS_creat, "traced", 0600), ENOSYS);
	pid_t child = must(fork());
	if (child == 0)
		return syscall(SYS_symlink, "x", "killed");
	int status;
	must(waitpid(child, &status, 0));
	must(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS ? 0 : -1);
	return 0;
}
