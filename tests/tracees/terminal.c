/* Reads from its terminal in every way there is, and is told of its size. Says on standard output what it waits for. */
#include "tracee.h"
#include <termios.h>

static void say(const char *what)
{
	must(write(1, what, strlen(what)));
}

static void flags(tcflag_t off, tcflag_t on)
{
	struct termios settings;
	must(tcgetattr(0, &settings));
	settings.c_lflag &= ~off;
	settings.c_lflag |= on;
	must(tcsetattr(0, TCSANOW, &settings));
}

static void resized(int signal)
{
	(void)signal;
}

int main(void)
{
	char buffer[64];
	struct iovec two[2] = { { buffer, 3 }, { buffer + 3, 61 } };
	sigset_t blocked, before;
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGWINCH);
	must(sigprocmask(SIG_BLOCK, &blocked, &before));
	must((long)signal(SIGWINCH, resized));
	must(setsid());
	must(ioctl(0, TIOCSCTTY, 0));
	say("line");
	must(read(0, buffer, 64));
	flags(ECHO, 0);
	say("secret");
	must(read(0, buffer, 64));
	/* Keys: who reads them shows them. */
	flags(ICANON, 0);
	say("key");
	must(read(0, buffer, 1));
	flags(0, ICANON | ECHO);
	int tty = must(open("/dev/tty", O_RDWR));
	say("vector");
	must(syscall(SYS_readv, tty, two, 2));
	must(dup2(tty, 9));
	say("copy");
	must(syscall(SYS_preadv2, 9, two, 2, -1L, -1L, 0));
	say("moved");
	int ends[2];
	must(pipe(ends));
	if (splice(tty, NULL, ends[1], NULL, 64, 0) < 0)
		must(read(tty, buffer, 64));
	say("size");
	sigsuspend(&before);
	/* The kernel tells before it has set the size: not to set another one until then. */
	say("again");
	must(read(0, buffer, 64));
	struct winsize size = { .ws_row = 50, .ws_col = 120 };
	must(syscall(SYS_ioctl, tty, TIOCSWINSZ, &size));
	must(syscall(SYS_ioctl, tty, TIOCSWINSZ, &size));
	sigsuspend(&before);
	/* Another terminal is none of the session's. */
	int other = must(open("/dev/ptmx", O_RDWR | O_NOCTTY));
	must(ioctl(other, TIOCSWINSZ, &size));
	return 0;
}
