/* Renames: files, directories above the working directory and above open ones, exchanges, failures. */
#include "tracee.h"
#include <linux/fs.h>

int main(void)
{
	int sub = must(open("a/sub", O_RDONLY | O_DIRECTORY));
	int file = must(open("a/sub/file", O_RDWR | O_CREAT, 0600));
	must(chdir("a/sub"));
	must(syscall(SYS_rename, "../../a", "../../b"));
	/* All of these are below b now. */
	must(open("here", O_WRONLY | O_CREAT, 0600));
	must(openat(sub, "there", O_WRONLY | O_CREAT, 0600));
	must(ftruncate(file, 3));
	must(syscall(SYS_renameat, sub, "there", AT_FDCWD, "moved"));
	int top = must(open("../..", O_RDONLY | O_DIRECTORY));
	must(mkdirat(top, "c", 0700));
	must(syscall(SYS_renameat2, top, "b", top, "c", RENAME_EXCHANGE));
	must(open("exchanged", O_WRONLY | O_CREAT, 0600));
	fails(syscall(SYS_renameat2, top, "b", top, "c", RENAME_NOREPLACE), EEXIST);
	return 0;
}
