/* Signals that this process sends itself, or the processor raises: order, who sent them, payload, stack, masks. */
#include "program.h"
#include <ucontext.h>

static char alternate[65536];
static char *inside(const void *address)
{
	const char *at = address;
	return at >= alternate && at < alternate + sizeof alternate ? "alternate" : "own";
}

static void report(int signal, siginfo_t *info, void *context)
{
	char here;
	const char *from = info->si_code <= 0 ? (info->si_pid == getpid() ? " from me" : " from another") : "";
	say("signal %d code %d value %d%s, %s stack\n", signal, info->si_code,
	    info->si_code == SI_QUEUE ? info->si_value.sival_int : 0, from, inside(&here));
#ifdef __x86_64__
	ucontext_t *registers = context;
	if (signal == SIGTRAP)
		registers->uc_mcontext.gregs[REG_EFL] &= ~0x100l;
	/* Over the `ud2`, or the load through a null pointer. */
	if (signal == SIGILL && info->si_code > 0)
		registers->uc_mcontext.gregs[REG_RIP] += 2;
	if (signal == SIGSEGV && info->si_code > 0)
		registers->uc_mcontext.gregs[REG_RIP] += 2;
#endif
}

static void on(int signal, int flags)
{
	struct sigaction action = {.sa_sigaction = report, .sa_flags = SA_SIGINFO | flags};
	must(sigaction(signal, &action, NULL));
}

int main(void)
{
	sigset_t all, old, pending;
	stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate};
	must(sigaltstack(&stack, NULL));
	sigfillset(&all);
	for (int signal = 1; signal < 32; signal++)
		if (signal != SIGKILL && signal != SIGSTOP)
			on(signal, signal % 2 ? SA_ONSTACK : 0);
	for (int signal = SIGRTMIN; signal <= SIGRTMAX; signal++)
		on(signal, 0);

	/* Each by itself. */
	for (int signal = 1; signal < 32; signal++)
		if (signal != SIGKILL && signal != SIGSTOP)
			must(raise(signal));
	/* Many at once: delivered in the kernel's order. */
	must(sigprocmask(SIG_BLOCK, &all, &old));
	int some[] = {SIGUSR2, SIGRTMIN + 3, SIGTERM, SIGINT, SIGSEGV, SIGRTMIN, SIGHUP, SIGTSTP, SIGCHLD, SIGTRAP};
	for (unsigned i = 0; i < sizeof some / sizeof *some; i++)
		must(kill(getpid(), some[i]));
	for (int i = 0; i < 5; i++) {
		must(sigqueue(getpid(), SIGRTMIN + 5, (union sigval){.sival_int = 100 + i}));
		must(sigqueue(getpid(), SIGRTMIN + 4, (union sigval){.sival_int = 200 + i}));
		must(sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = 300 + i}));
	}
	must(sigpending(&pending));
	for (int signal = 1; signal <= SIGRTMAX; signal++)
		if (sigismember(&pending, signal) == 1)
			say("pending %d\n", signal);
	must(sigprocmask(SIG_SETMASK, &old, NULL));
	/* Taken without a handler. */
	must(sigprocmask(SIG_BLOCK, &all, &old));
	for (int i = 0; i < 3; i++)
		must(sigqueue(getpid(), SIGRTMIN + 1, (union sigval){.sival_int = i}));
	for (int i = 0; i < 3; i++) {
		siginfo_t info;
		must(sigwaitinfo(&all, &info));
		say("waited for %d value %d code %d\n", info.si_signo, info.si_value.sival_int, info.si_code);
	}
	must(sigprocmask(SIG_SETMASK, &old, NULL));
	/* The processor's own. */
#ifdef __x86_64__
	__asm__ volatile("int3");
	__asm__ volatile("ud2");
	__asm__ volatile("mov (%0), %%al" ::"r"(0l) : "rax", "memory");
	/* Single steps of its own, over a covered call too. */
	__asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq; nop" ::: "memory", "cc");
	int fd = must(open("/dev/null", O_RDONLY));
	long result, number = SYS_close;
	__asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq; syscall"
			 : "=a"(result)
			 : "a"(number), "D"(fd)
			 : "rcx", "r11", "memory", "cc");
	tell("close with single steps", result);
#endif
	say("done\n");
	return 0;
}
