/* Turns a directory into its root, as containers do, while another process of the namespace looks on. */
#include "tracee.h"

int main(void)
{
	int to_child[2], from_child[2];
	char byte = 0;
	must(pipe(to_child));
	must(pipe(from_child));
	must(syscall(SYS_unshare, CLONE_NEWUSER | CLONE_NEWNS));
	must(syscall(SYS_mount, NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	must(syscall(SYS_mount, "new", "new", NULL, MS_BIND | MS_REC, NULL));
	pid_t child = must(fork());
	if (child == 0) {
		must(close(to_child[1]));
		must(chdir("/"));
		must(write(from_child[1], &byte, 1));
		must(read(to_child[0], &byte, 1));
		must(open("by_child", O_RDONLY | O_CREAT, 0600));
		return 0;
	}
	must(read(from_child[0], &byte, 1));
	must(syscall(SYS_pivot_root, "new", "new/old"));
	must(write(to_child[1], &byte, 1));
	reap(child);
	must(chdir("/"));
	must(open("/file", O_RDONLY | O_CREAT, 0600));
	must(umount2("/old", MNT_DETACH));
	must(open("sub/file", O_RDONLY | O_CREAT, 0600));
	return 0;
}
