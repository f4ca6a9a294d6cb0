/* Works on files while it is not dumpable, and says whether it is. */
#include "program.h"

int main(void)
{
	tell("dumpable", prctl(PR_GET_DUMPABLE));
	must(prctl(PR_SET_DUMPABLE, 0));
	int fd = must(open("file", O_RDWR | O_CREAT, 0600));
	must(write(fd, "text", 4));
	must(close(fd));
	must(rename("file", "renamed"));
	must(mkdir("directory", 0700));
	int status;
	pid_t child = must(fork());
	if (child == 0) {
		must(unlink("renamed"));
		_exit(3);
	}
	must(waitpid(child, &status, 0));
	tell("child", WEXITSTATUS(status));
	tell("dumpable", prctl(PR_GET_DUMPABLE));
	must(prctl(PR_SET_DUMPABLE, 1));
	tell("dumpable", prctl(PR_GET_DUMPABLE));
	return 0;
}
