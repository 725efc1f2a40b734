// SPDX-License-Identifier: Apache-2.0

package main

const asPostgres = `setpriv --reuid postgres --regid postgres --clear-groups `

// postgres is Debian's server, with a new cluster.
var postgres = end{"PostgreSQL", "/usr/lib/postgresql/15/bin/postgres --version", `bin=/usr/lib/postgresql/15/bin
` + asPostgres + `$bin/initdb -D "$DIR/data" -A trust -U postgres --no-sync --no-locale -E UTF8 >&2
echo "host all all 0.0.0.0/0 trust" >"$DIR/data/pg_hba.conf"
exec ` + asPostgres + `$bin/postgres -D "$DIR/data" -h 0.0.0.0 -k "$DIR" -c fsync=off -c autovacuum=off`, ""}

// postgresReady waits until the server answers queries, which is later than it listens.
const postgresReady = `until /usr/lib/postgresql/15/bin/pg_isready -q -h "$SERVER"; do sleep 0.2; done
`

func databaseCases() []testCase {
	const psql = "/usr/lib/postgresql/15/bin/psql --version"
	return []testCase{
		{
			name: "redis", port: 6379,
			server: end{
				"redis-server", "redis-server --version",
				`exec redis-server --bind 0.0.0.0 --protected-mode no --save "" --dir "$DIR"`, "",
			},
			client: end{"redis-cli", "redis-cli --version", `redis-cli -h "$SERVER" -x set body <body >&2
for i in $(seq "$N"); do echo "get body"; done | redis-cli -h "$SERVER" --raw` + hashLines, ""},
		},
		{name: "postgres-psql", port: 5432, server: postgres, client: end{"psql (libpq)", psql, postgresReady + `
{ echo "create table t (v text); insert into t values ('$(cat body)');"; for i in $(seq "$N"); do echo "select v from t;"; done; } |
psql -q -t -A -v ON_ERROR_STOP=1 -h "$SERVER" -U postgres` + hashLines, ""}},
		{name: "postgres-pgbench", port: 5432, n: 1, server: postgres, client: end{
			"pgbench (libpq)", psql, postgresReady + `
bench="/usr/lib/postgresql/15/bin/pgbench -h $SERVER -U postgres"
$bench -i -q postgres >&2 && $bench -S -c 4 -t 100 postgres >&2 && $bench -c 2 -t 20 postgres >&2 && sha256sum <body`, "COPY, then short transactions"}},
		{name: "postgres-jdbc", port: 5432, slow: true, server: postgres, client: end{
			"JDBC", "ls /usr/share/maven-repo/org/postgresql/postgresql",
			postgresReady + `exec java -XX:TieredStopAtLevel=1 -cp /usr/share/java/postgresql.jar "$FILES/Jdbc.java"`,
			"",
		}},
		// Without its own tables it starts quickly, and accepts every user.
		{name: "mariadb", port: 3306, server: end{"MariaDB", "mariadbd --version", `mkdir "$DIR/data"; chown mysql "$DIR/data"
exec mariadbd --no-defaults --user=mysql --datadir="$DIR/data" --socket="$DIR/sock" --bind-address=0.0.0.0 --skip-name-resolve ` +
			`--skip-grant-tables`, ""}, client: end{"mariadb", "mariadb --version | sed s/.*Distrib//", `sql="mariadb --no-defaults -h $SERVER"
until $sql -e "create database d" >&2; do sleep 0.5; done
{ echo "create table t (v mediumtext); insert into t values ('$(cat body)');"; for i in $(seq "$N"); do echo "select v from t;"; done; } |
$sql -N -B d` + hashLines, ""}},
		{
			name: "memcached", port: 11211,
			server: end{"memcached", "memcached -V", `exec memcached -u nobody -l 0.0.0.0 -p "$PORT"`, ""},
			client: python("memcache", "python3 --version"),
		},
	}
}

func brokerCases() []testCase {
	return []testCase{{
		name: "rabbitmq", port: 5672, slow: true,
		server: end{"RabbitMQ", "ls -d /usr/lib/rabbitmq/lib/rabbitmq_server-*", `mkdir "$DIR/rabbit"; chown rabbitmq "$DIR/rabbit"
printf 'loopback_users = none\nlisteners.tcp.1 = 0.0.0.0:5672\n' >"$DIR/rabbitmq.conf"; cd "$DIR/rabbit"
export HOME="$DIR/rabbit" RABBITMQ_CONFIG_FILE="$DIR/rabbitmq.conf" RABBITMQ_MNESIA_BASE="$DIR/rabbit" RABBITMQ_LOG_BASE="$DIR/rabbit"
export RABBITMQ_NODENAME=rabbit@localhost
exec setpriv --reuid rabbitmq --regid rabbitmq --clear-groups /usr/lib/rabbitmq/bin/rabbitmq-server`, ""},
		client: python("pika", "python3 -c 'import pika; print(pika.__version__)'"),
	}}
}

func fileCases() []testCase {
	return []testCase{
		{
			name: "rsync", port: 873, n: 1,
			server: end{"rsync (daemon)", "rsync --version", `printf '[files]\npath=%s\nuse chroot=no\nuid=0\ngid=0\n' "$DIR/out" >rsyncd.conf
mkdir -p out; for i in $(seq 30); do cp body out/$i; done
exec rsync --daemon --no-detach --config="$DIR/rsyncd.conf" --port="$PORT"`, ""},
			client: end{"rsync", "rsync --version", `rsync -r "rsync://$SERVER:$PORT/files/" in/
for i in $(seq 30); do cmp body in/$i; done; sha256sum <in/30`, ""},
		},
		{
			name: "ssh", port: 2222,
			server: end{"sshd", "ssh -V", `mkdir -p /run/sshd; ssh-keygen -q -t ed25519 -N "" -f "$DIR/key"
cp "$DIR/key" "$DIR/hostkey"; cp "$DIR/key.pub" "$DIR/allowed"
exec /usr/sbin/sshd -D -e -f /dev/null -p "$PORT" -h "$DIR/hostkey" -o AuthorizedKeysFile="$DIR/allowed" -o StrictModes=no`, ""},
			client: end{"ssh", "ssh -V", `cp "$DIR/key" id; chmod 600 id
ssh -F none -i id -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -p "$PORT" "root@$SERVER" ` +
				`"for i in \$(seq $N); do cat $DIR/body; echo; done"` + hashLines, ""},
		},
	}
}
