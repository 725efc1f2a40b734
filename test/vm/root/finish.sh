# SPDX-License-Identifier: Apache-2.0
# This does in the tree of extracted packages what their scripts would have done, as far as programs need it.
set -eu
cd "$1"
cat usr/share/base-passwd/passwd.master >etc/passwd
cat usr/share/base-passwd/group.master >etc/group
id=100
for user in memcache mysql postgres rabbitmq sshd; do
	echo "$user:x:$id:$id::/nonexistent:/bin/sh" >>etc/passwd
	echo "$user:x:$id:" >>etc/group
	id=$((id + 1))
done
sed 's/:.*/:*:19000:0:99999:7:::/' etc/passwd >etc/shadow
chmod 600 etc/shadow
cp usr/share/libc-bin/nsswitch.conf etc/nsswitch.conf
ln -sf mawk usr/bin/awk
ln -sf ../lib/jvm/java-17-openjdk-amd64/bin/java usr/bin/java
rm -rf usr/share/man usr/share/doc usr/share/info usr/share/locale var/cache/apt var/lib/apt/lists
chmod 1777 tmp var/tmp
mount -t proc proc proc
trap 'umount proc' EXIT
chroot . ldconfig
# Both would be done again at each start in a guest, whose processor is twenty times slower.
chroot . python3 -m compileall -q usr/lib/python3 usr/lib/python3.11 >&2 || true
chroot . java -Xshare:dump >&2
# As they are called, a program that is not there is found here and not in a guest.
for program in apache2 awk curl haproxy java mariadbd memcached nginx nodejs php-fpm8.2 psql puma python3 redis-server rsync ruby ssh; do
	chroot . sh -c "command -v $program" >&2
done
