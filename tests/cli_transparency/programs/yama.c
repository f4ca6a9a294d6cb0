/* Runs a program where only relations may trace, as with `kernel.yama.ptrace_scope` 1, the first argument; with 2 nobody may.
 * Decides about PTRACE_SEIZE and PTRACE_ATTACH as Yama does (security/yama/yama_lsm.c): an ancestor may, and
 * whoever the process has named by PR_SET_PTRACER, with its descendants. */
#include "program.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define EQUALS(value, else_skip) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, else_skip)

static struct { pid_t tracee, tracer; } permitted[64];
static unsigned permissions;

static pid_t parent_of(pid_t pid)
{
	char path[64], text[512];
	snprintf(path, sizeof path, "/proc/%d/stat", pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	long length = read(fd, text, sizeof text - 1);
	close(fd);
	text[length > 0 ? length : 0] = 0;
	char *rest = strrchr(text, ')');
	return rest ? atoi(rest + 4) : 0;
}

static int descends(pid_t pid, pid_t from)
{
	while (pid > 1 && pid != from)
		pid = parent_of(pid);
	return pid == from;
}

static int may_trace(pid_t tracer, pid_t tracee)
{
	for (unsigned i = 0; i < permissions; i++)
		if (permitted[i].tracee == tracee && descends(tracer, permitted[i].tracer))
			return 1;
	return descends(tracee, tracer);
}

/* The process of a thread. */
static pid_t process_of(pid_t tid)
{
	char path[64], line[256];
	pid_t pid = tid;
	snprintf(path, sizeof path, "/proc/%d/status", tid);
	FILE *status = fopen(path, "re");
	while (status && fgets(line, sizeof line, status))
		if (sscanf(line, "Tgid: %d", &pid) == 1)
			break;
	if (status)
		fclose(status);
	return pid;
}

/* 0: the kernel decides; 1: done; else an error. */
static int decide(const struct seccomp_notif *request, int scope)
{
	pid_t caller = process_of(request->pid);
	if (request->data.nr == SYS_ptrace)
		return scope == 1 && may_trace(caller, process_of(request->data.args[1])) ? 0 : -EPERM;
	must(permissions < sizeof permitted / sizeof *permitted ? 0 : -1);
	permitted[permissions].tracee = caller;
	permitted[permissions++].tracer = request->data.args[1];
	return 1;
}

int main(int argc, char **argv)
{
	struct sock_filter code[] = {
		LOAD(nr),
		EQUALS(SYS_prctl, 2),
		LOAD(args[0]),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PR_SET_PTRACER, 3, 6),
		EQUALS(SYS_ptrace, 5),
		LOAD(args[0]),
		EQUALS(PTRACE_ATTACH, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
		EQUALS(PTRACE_SEIZE, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof code / sizeof *code, code};
	int scope = atoi(argv[1]);
	must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	int listener = must(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program));
	must(fcntl(listener, F_SETFD, FD_CLOEXEC));
	pid_t child = must(fork());
	if (child == 0)
		must(execvp(argv[2], argv + 2));
	struct pollfd fds[] = {{listener, POLLIN, 0}, {must(syscall(SYS_pidfd_open, child, 0)), POLLIN, 0}};
	while (must(poll(fds, 2, -1)) && !fds[1].revents) {
		struct seccomp_notif request = {0};
		/* Who asked may be gone. */
		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &request) < 0)
			continue;
		int answer = decide(&request, scope);
		struct seccomp_notif_resp response = {.id = request.id};
		if (answer < 0)
			response.error = answer;
		else if (answer == 0)
			response.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
		ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &response);
	}
	int status;
	must(waitpid(child, &status, 0));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
