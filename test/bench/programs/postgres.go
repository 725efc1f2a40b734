// SPDX-License-Identifier: Apache-2.0

package programs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// postgresScale is large enough that the clients of TPC-B rarely wait for each other's branches.
const postgresScale = 5

func postgres() program {
	return program{
		name:  "postgres",
		start: startPostgres,
		check: checkPostgres,
		cells: []cell{
			{name: "pgbench -S -c 1", goal: 1.25, client: pgbench(1, "-S")},
			{name: "pgbench -S -c 16", goal: 1.6, two: true, client: pgbench(16, "-S")},
			{name: "pgbench TPC-B -c 4", note: "without waiting for the disk", client: pgbench(4)},
		},
	}
}

// postgresBin is Debian's directory of the programs of the newest version.
func postgresBin() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil || len(found) == 0 {
		return "", errors.New("no PostgreSQL server (apt-get install postgresql)")
	}
	return found[len(found)-1], nil
}

// postgresUser runs the server, which refuses to run as root.
func postgresUser() (*syscall.Credential, error) {
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("%w (apt-get install postgresql)", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, err
}

// postgresSettings keep background work and the disk out of the measurement.
var postgresSettings = []string{
	"fsync=off", "synchronous_commit=off", "full_page_writes=off", "autovacuum=off", "checkpoint_timeout=1h",
	"max_wal_size=8GB",
}

func startPostgres(ctx context.Context, s *side) error {
	bin, err := postgresBin()
	if err != nil {
		return err
	}
	owner, err := postgresUser()
	if err != nil {
		return err
	}
	if err := os.Chown(s.dir, int(owner.Uid), int(owner.Gid)); err != nil {
		return err
	}
	data := filepath.Join(s.dir, "data")
	initdb := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "-D", data, "-A", "trust", "-U", "postgres",
		"--no-sync",
		"--locale", "C", "-E", "UTF8")
	initdb.SysProcAttr = &syscall.SysProcAttr{Credential: owner, Pdeathsig: syscall.SIGKILL}
	initdb.Dir = s.dir
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	if err := os.WriteFile(filepath.Join(data, "pg_hba.conf"), []byte("host all all 0.0.0.0/0 trust\n"),
		0o644); err != nil {
		return err
	}
	args := []string{filepath.Join(bin, "postgres"), "-D", data, "-h", "0.0.0.0", "-k", ""}
	for _, setting := range postgresSettings {
		args = append(args, "-c", setting)
	}
	// SIGQUIT stops it immediately, because the data is not needed.
	if err := s.serve(ctx, spec{where: s.pods.Server, user: owner, end: syscall.SIGQUIT,
		args: args}); err != nil {
		return err
	}
	err = s.ready(ctx, func(ctx context.Context, s *side) error {
		_, err := s.client(ctx, serverCPU, s.postgres("psql", "-c", "select 1")...)
		return err
	})
	if err != nil {
		return err
	}
	_, err = s.client(ctx, serverCPU, s.postgres("pgbench", "-i", "-q", "-s", strconv.Itoa(postgresScale))...)
	return err
}

// postgres is the command line of a client.
func (s *side) postgres(name string, args ...string) []string {
	bin, _ := postgresBin() // or the server would not run
	return append([]string{filepath.Join(bin, name), "-h", s.pods.Server.IP4().String(), "-U", "postgres", "-d",
		"postgres"}, args...)
}

// checkPostgres checks conditions on the tables that hold if each transaction was done exactly once and
// completely.
func checkPostgres(ctx context.Context, s *side) error {
	const query = `select count(*), sum(abalance) = (select sum(tbalance) from pgbench_tellers),
		sum(abalance) = (select sum(bbalance) from pgbench_branches),
		sum(abalance) = (select coalesce(sum(delta), 0) from pgbench_history) from pgbench_accounts`
	out, err := s.client(ctx, serverCPU, s.postgres("psql", "-A", "-t", "-c", query)...)
	if err != nil {
		return err
	}
	if want := fmt.Sprintf("%d|t|t|t", 100_000*postgresScale); strings.TrimSpace(out) != want {
		return fmt.Errorf("the tables have %q instead of %q", out, want)
	}
	return nil
}
