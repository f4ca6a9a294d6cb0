/* Says of a signal how it was sent, and by whom. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

static siginfo_t seen;

static void handler(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)context;
    seen = *info;
}

int main(void)
{
    struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO };
    sigset_t block, before;
    sigemptyset(&block);
    sigaddset(&block, SIGUSR1);
    sigprocmask(SIG_BLOCK, &block, &before);
    sigaction(SIGUSR1, &action, NULL);
    puts("ready");
    fflush(stdout);
    sigsuspend(&before);
    printf("signal %d code %d errno %d from %d\n", seen.si_signo, seen.si_code, seen.si_errno, seen.si_pid);
    return 0;
}
