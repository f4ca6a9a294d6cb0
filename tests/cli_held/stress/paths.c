/* Everything that makes it hard to say which file a name means. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void touch(const char *name)
{
	int fd = open(name, O_WRONLY | O_CREAT, 0600);
	if (fd >= 0 && write(fd, name, strlen(name)))
		close(fd);
}

static void touch_at(int dir, const char *name)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT, 0600);
	if (fd >= 0 && write(fd, "at", 2))
		close(fd);
}

static void in_child(void (*work)(void))
{
	pid_t child = fork();
	if (child == 0) {
		work();
		_exit(0);
	}
	waitpid(child, NULL, 0);
}

static void odd_names(void)
{
	mkdir("new\nline", 0700);
	mkdir("new\nline/\xff\xfe", 0700);
	touch("new\nline/\xff\xfe/tab\t\"quotes\" \\ '");
	rename("new\nline/\xff\xfe", "new\nline/\xc3\xa4 b");
	touch("-rf *");
	unlink("-rf *");
	mkdir(" ", 0700);
	rmdir(" ");
	open("", O_RDONLY);
	unlink("");
	touch(".//.//./dots");
	touch("dots/");
	unlink("dots/");
	open((char *)1, O_RDONLY);
	unlink(NULL);
}

static void long_names(void)
{
	static char name[1 << 20];
	memset(name, 'n', sizeof name - 1);
	open(name, O_RDONLY);
	mkdir(name, 0700);
	rename(name, "short");
	rename("short", name);
	name[4096] = 0;
	open(name, O_RDONLY);
	name[4095] = 0;
	open(name, O_RDONLY);
	name[256] = 0;
	touch(name);
	name[255] = 0;
	touch(name);
	symlink(name, "to_long");
	unlink(name);
}

static void renamed_under_us(void)
{
	mkdir("a", 0700);
	mkdir("a/b", 0700);
	int dir = open("a/b", O_RDONLY | O_DIRECTORY);
	int path = open("a", O_PATH);
	int file = open("a/b/file", O_RDWR | O_CREAT, 0600);
	chdir("a/b");
	rename("../../a", "../../c");
	touch("here");
	touch_at(dir, "there");
	touch_at(path, "above");
	ftruncate(file, 10);
	rename("file", "../moved");
	ftruncate(file, 20);
	fchmod(file, 0640);
	chdir("../..");
	mkdir("d", 0700);
	syscall(SYS_renameat2, AT_FDCWD, "c", AT_FDCWD, "d", RENAME_EXCHANGE);
	touch_at(dir, "exchanged");
	fchdir(dir);
	touch("in_exchanged");
	fchdir(path);
	touch("in_path");
	chdir("..");
	close(dir);
	close(path);
	close(file);
}

static void rename_through_link(void)
{
	rename("link/deep", "link/deeper");
}

static void links_in_between(void)
{
	mkdir("real", 0700);
	mkdir("real/deep", 0700);
	mkdir("other", 0700);
	mkdir("other/deep", 0700);
	symlink("real", "link");
	int dir = open("link/deep", O_RDONLY | O_DIRECTORY);
	touch("link/deep/by_link");
	touch("link/../beside");
	touch("link/deep/../../still_beside");
	chdir("link/deep");
	rename("../../link/deep", "../../link/moved");
	touch("after_rename");
	touch_at(dir, "at_after_rename");
	chdir("../..");
	rename("link/moved", "link/deep");
	int below = open("real/deep", O_PATH);
	in_child(rename_through_link);
	touch_at(below, "at_after_child");
	touch_at(dir, "at_after_child_too");
	/* A link of its own: what was opened by it is known by where it led then. */
	symlink("real", "turned");
	int turned = open("turned/deeper", O_RDONLY | O_DIRECTORY);
	symlink("other", "new_link");
	rename("new_link", "turned");
	touch("turned/deep/in_other");
	touch_at(turned, "in_real");
	close(turned);
	touch_at(dir, "still_in_real");
	close(dir);
	close(below);
}

static void removed_under_us(void)
{
	mkdir("gone", 0700);
	mkdir("gone/sub", 0700);
	int dir = open("gone/sub", O_RDONLY | O_DIRECTORY);
	chdir("gone/sub");
	rmdir("../sub");
	touch("nowhere");
	touch_at(dir, "nowhere_at");
	mkdir("nowhere_dir", 0700);
	chdir("..");
	touch("somewhere");
	fchdir(dir);
	touch("nowhere_again");
	chdir("..");
	chdir("..");
	close(dir);
}

static void hard_links(void)
{
	touch("one");
	link("one", "two");
	symlink("one", "soft");
	linkat(AT_FDCWD, "soft", AT_FDCWD, "soft_too", 0);
	linkat(AT_FDCWD, "soft", AT_FDCWD, "three", AT_SYMLINK_FOLLOW);
	int file = open(".", O_TMPFILE | O_RDWR, 0600);
	write(file, "anonymous", 9);
	char name[32];
	snprintf(name, sizeof name, "/proc/self/fd/%d", file);
	linkat(AT_FDCWD, name, AT_FDCWD, "named", AT_SYMLINK_FOLLOW);
	linkat(file, "", AT_FDCWD, "named_too", AT_EMPTY_PATH);
	close(file);
	unlink("one");
	rename("two", "three");
	rename("two", "four");
}

static void paths_only(void)
{
	int path = open("four", O_PATH);
	write(path, "x", 1);
	fchmod(path, 0600);
	fchownat(path, "", -1, -1, AT_EMPTY_PATH);
	int again = dup(path);
	close(path);
	fcntl(again, F_DUPFD_CLOEXEC, 100);
	int link = open("soft", O_PATH | O_NOFOLLOW);
	openat(link, "below", O_RDONLY);
	close(again);
	close(link);
	openat(999, "relative", O_RDONLY);
	openat(999, "/dev/null", O_RDONLY);
	fchdir(999);
}

static void deep(void)
{
	char name[41];
	memset(name, 'd', 40);
	name[40] = 0;
	/* Longer than PATH_MAX in all: no name from the root reaches it. */
	for (int level = 0; level < 120; level++) {
		mkdir(name, 0700);
		chdir(name);
	}
	close(open("bottom", O_WRONLY | O_CREAT, 0600));
	mkdir("x", 0700);
	rename("x", "y");
	unlink("bottom");
	rmdir("y");
	for (int level = 0; level < 120; level++) {
		chdir("..");
		rmdir(name);
	}
	touch("top");
}

int main(void)
{
	odd_names();
	long_names();
	renamed_under_us();
	links_in_between();
	removed_under_us();
	hard_links();
	paths_only();
	deep();
	return 0;
}
