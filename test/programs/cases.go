// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"slices"
	"time"
)

// testCase is a client that gets the same body several times, on one connection if it can.
type testCase struct {
	name           string
	port           int
	slow           bool // too slow in an emulated guest for every run
	n              int  // number of requests, 30 if it is 0
	server, client end
}

// end is a program. Scripts are for sh. They get DIR (the directory of the body), SERVER, PORT, N, FILES (the
// directory testdata), SELF (this program) and PEER (of test/bench/programs). A client prints the hash of
// each body.
type end struct {
	program string
	version string // command that prints it
	script  string
	note    string // its configuration, if that decides the result
}

func (c testCase) times() int { return cmp.Or(c.n, 30) }

// limit bounds one try: an emulated processor is twenty times slower.
func (c testCase) limit() time.Duration {
	if c.slow {
		return 6 * time.Minute
	}
	return 3 * time.Minute
}

func cases() []testCase {
	return slices.Concat(webCases(), languageCases(), databaseCases(), brokerCases(), fileCases())
}

const hashLines = ` | python3 "$FILES/hashlines.py"`

var curl = end{"curl", "curl --version",
	`curl -sS -o "$DIR/got#1" "http://$SERVER:$PORT/body?[1-$N]"; cat $(seq -f "$DIR/got%g" 1 $N) | ` +
		`python3 "$FILES/pieces.py"`, ""}

func webCases() []testCase {
	apache := end{
		"apache2", "apache2 -v", `mkdir run; exec apache2 -d "$DIR" -f "$FILES/apache.conf" -DFOREGROUND`,
		"event MPM",
	}
	return []testCase{
		{name: "nginx", port: 80, server: nginx("sendfile on; tcp_nopush on;", "`sendfile on`, as Debian ships it"),
			client: curl},
		{name: "nginx-write", port: 80, server: nginx("sendfile off;", "`sendfile off`"), client: curl},
		{name: "apache", port: 80, server: apache,
			client: python("requests", "python3 -c 'import requests; print(requests.__version__)'")},
		{name: "apache-curl", port: 80, server: apache, client: curl},
		{name: "haproxy", port: 80, server: nginx("sendfile off;", "`sendfile off`"), client: end{
			"haproxy", "haproxy -v", `sed "s#@DIR@#$DIR#g; s#@BACKEND@#$SERVER:$PORT#" "$FILES/haproxy.cfg" >haproxy.cfg
haproxy -f haproxy.cfg & pid=$!; until test -S "$DIR/front"; do kill -0 $pid; sleep 0.1; done
curl -sS --unix-socket "$DIR/front" -o "$DIR/got#1" "http://localhost/body?[1-$N]"; cat $(seq -f "$DIR/got%g" 1 $N) | python3 "$FILES/pieces.py"
kill $pid`, "proxy of the client's pod",
		}},
		{name: "php-fpm", port: 9000, server: end{
			"php-fpm", "php-fpm8.2 -v", `printf '[www]\nlisten=0.0.0.0:9000\npm=static\npm.max_children=2\nuser=www-data\n' >pool.conf
cp "$FILES/body.php" "$DIR/"; exec php-fpm8.2 -F -y pool.conf`, "FastCGI over TCP",
		}, client: end{"nginx", "nginx -v", `sed "s#@DIR@#$DIR#g; s#@BACKEND@#$SERVER:$PORT#" "$FILES/fastcgi.conf" >fastcgi.conf
nginx -c "$DIR/fastcgi.conf" & pid=$!; until test -S "$DIR/front"; do kill -0 $pid; sleep 0.1; done
curl -sS --unix-socket "$DIR/front" -o "$DIR/got#1" "http://localhost/body.php?[1-$N]"; cat $(seq -f "$DIR/got%g" 1 $N) | python3 "$FILES/pieces.py"
kill $pid`, "`fastcgi_keep_conn on`"}},
	}
}

// nginx serves the body with these directives.
func nginx(directives, note string) end {
	return end{"nginx", "nginx -v", `sed "s#@DIR@#$DIR#g; s#@SET@#` + directives + `#" "$FILES/nginx.conf" >nginx.conf
exec nginx -c "$DIR/nginx.conf"`, note}
}

// python is a client of testdata/get.py.
func python(mode, version string) end {
	return end{"python3 (" + mode + ")", version, `exec python3 "$FILES/get.py" ` + mode, ""}
}

func languageCases() []testCase {
	const pythonVersion, node, java = "python3 --version", "nodejs --version", "java -version"
	return []testCase{
		{name: "python-http", port: 8000, client: python("http.client", pythonVersion), server: end{
			"python3 (http.server)", pythonVersion, `exec python3 "$FILES/serve.py" http`, "HTTP/1.1",
		}},
		{name: "python-asyncio", port: 8000, client: python("asyncio", pythonVersion), server: end{
			"python3 (asyncio)", pythonVersion, `exec python3 "$FILES/serve.py" asyncio`, "",
		}},
		{
			name: "node", port: 8000,
			server: end{"node (http)", node, `exec nodejs "$FILES/peer.js" serve`, ""},
			client: end{"node (http)", node, `exec nodejs "$FILES/peer.js" get`, "`keepAlive`"},
		},
		{
			name: "go", port: 8000,
			server: end{"Go (net/http)", "echo " + goVersion(), `exec "$SELF" go-serve "0.0.0.0:$PORT" "$DIR"`, ""},
			client: end{"Go (net/http)", "echo " + goVersion(), `exec "$SELF" go-get "http://$SERVER:$PORT/body" "$N"`,
				""},
		},
		{
			name: "grpc", port: 8000, n: 1,
			server: end{"Go (gRPC)", "echo " + goVersion(), `exec "$PEER" grpc-serve -address "0.0.0.0:$PORT"`, ""},
			client: end{
				"Go (gRPC)", "echo " + goVersion(),
				`"$PEER" grpc-unary -connections 4 -duration 2s -address "$SERVER:$PORT" >&2 && sha256sum <body`,
				"it compares itself",
			},
		},
		{
			name: "java", port: 8000, slow: true,
			server: end{"Java (HttpServer)", java, `/usr/lib/jvm/java-17-openjdk-amd64/bin/javac -J-XX:TieredStopAtLevel=1 -d "$DIR/classes" "$FILES/Peer.java"
exec java -XX:TieredStopAtLevel=1 -cp "$DIR/classes" Peer serve`, ""},
			client: end{"Java (java.net.http)", java, `exec java -XX:TieredStopAtLevel=1 -cp "$DIR/classes" Peer get`,
				""},
		},
		{name: "netty", port: 8000, slow: true, client: curl, server: end{
			"Netty", "ls /usr/share/maven-repo/io/netty/netty-all",
			`exec java -XX:TieredStopAtLevel=1 -cp "/usr/share/java/*" "$FILES/Netty.java"`,
			"NIO",
		}},
		{
			name: "puma", port: 8000,
			server: end{"puma", "puma --version",
				`exec puma --bind "tcp://0.0.0.0:$PORT" --threads 1:2 "$FILES/config.ru"`, ""},
			client: end{"ruby (net/http)", "ruby --version", `exec ruby "$FILES/get.rb"`, ""},
		},
	}
}
