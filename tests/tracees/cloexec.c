/* What an exec closes and what it keeps, however it was marked. */
#include "tracee.h"

int main(int argc, char **argv)
{
	if (argc > 1) {
		must(write(3, "kept", 4));
		must(write(7, "kept", 4));
		fails(write(4, "", 1), EBADF);
		fails(write(5, "", 1), EBADF);
		fails(write(6, "", 1), EBADF);
		return 0;
	}
	must(open("kept", O_WRONLY | O_CREAT, 0600));
	must(open("opened", O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	must(open("set", O_WRONLY | O_CREAT, 0600));
	must(syscall(SYS_fcntl, 5, F_SETFD, FD_CLOEXEC));
	must(open("ioctl", O_WRONLY | O_CREAT, 0600));
	must(syscall(SYS_ioctl, 6, FIOCLEX));
	must(open("unset", O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	must(syscall(SYS_ioctl, 7, FIONCLEX));
	must(syscall(SYS_execve, argv[0], (char *[]){ argv[0], "again", NULL },
		     (char *[]){ "NEW=1", NULL }));
}
