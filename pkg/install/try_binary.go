// SPDX-License-Identifier: Apache-2.0

package install

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/selinux"
	"golang.org/x/sys/unix"
)

// checkAnswers asks a plugin for its versions, as CRI-O does. A binary for another machine, or a part of one,
// must not replace one that works, and no runtime may see a plugin that the node refuses to run.
func checkAnswers(ctx context.Context, path string) error { return checkAnswersAs(ctx, path, path) }

// checkAnswersAs is checkAnswers for a copy: errors name the path that users know.
func checkAnswersAs(ctx context.Context, run, path string) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, run)
	cmd.Env = []string{"CNI_COMMAND=VERSION"}
	cmd.Stdin = bytes.NewReader([]byte(`{"cniVersion":"1.0.0"}`))
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	// A copy has a random name.
	if failed := (*fs.PathError)(nil); errors.As(err, &failed) && failed.Path == run {
		err = &fs.PathError{Op: failed.Op, Path: path, Err: failed.Err}
	}
	if why := whyNotRun(run, path, err); why != "" {
		return fmt.Errorf("%s cannot be run on this node: %w (%s)", path, err, why)
	}
	if err != nil {
		return fmt.Errorf("%s is no CNI plugin for this machine: it does not answer VERSION: %w", path, err)
	}
	var answer struct {
		SupportedVersions []string `json:"supportedVersions"`
	}
	if err := json.Unmarshal(out, &answer); err != nil {
		return fmt.Errorf("%s is no CNI plugin: its answer to VERSION is %q: %w", path, out, err)
	}
	for _, version := range supported {
		if !slices.Contains(answer.SupportedVersions, version) {
			return fmt.Errorf("%s is not the plugin sockmap: it does not support CNI version %s", path, version)
		}
	}
	return nil
}

// whyNotRun returns who refuses to execute a file, and what to do about it. It is empty for other errors.
func whyNotRun(run, path string, err error) string {
	switch {
	case errors.Is(err, unix.EACCES) && noexec(run):
		return fmt.Sprintf("the file system of %s is mounted noexec: mount it with exec, or use another "+
			"directory in which the runtime looks for plugins", filepath.Dir(path))
	case errors.Is(err, unix.EACCES) && selinux.Label() != "":
		return fmt.Sprintf("SELinux may refuse it: see \"ausearch -m avc -ts recent\", and \"restorecon -v %s\"",
			path)
	case errors.Is(err, unix.EACCES):
		return "its mode, or a policy of the node such as IMA or AppArmor, refuses it"
	case errors.Is(err, unix.EPERM):
		return fmt.Sprintf("a policy of the node refuses it; where that is fapolicyd: \"fapolicyd-cli --file add "+
			"%s\", then \"fapolicyd-cli --update\"", path)
	}
	return ""
}

func noexec(path string) bool {
	var fs unix.Statfs_t
	return unix.Statfs(path, &fs) == nil && fs.Flags&unix.ST_NOEXEC != 0
}

// copyThatRuns copies the plugin beside its place and runs the copy: mount options, the label and policies of
// the node depend on the directory. The caller holds the lock of BinDir, and renames or removes the copy.
// After an error there is no copy.
func (i *Installer) copyThatRuns(ctx context.Context, src io.Reader) (temp string, err error) {
	if err := i.step("write " + PluginType); err != nil {
		return "", err
	}
	if temp, err = i.writeTemp(i.BinDir, src, i.binaryAttributes()); err != nil {
		err = fmt.Errorf("write %s: %w", i.Binary(), err)
	} else {
		err = i.checkRuns(ctx, temp)
	}
	if err != nil && temp != "" {
		return "", errors.Join(err, unlink(temp))
	}
	return temp, err
}

// checkRuns runs the copy. If a policy of the node refuses it, it runs once more under the plugin's name:
// fapolicyd may trust that path, but not the path of the copy.
func (i *Installer) checkRuns(ctx context.Context, temp string) error {
	err := checkAnswersAs(ctx, temp, i.Binary())
	if !errors.Is(err, fs.ErrPermission) || noexec(temp) {
		return err
	}
	back, errMove := i.tryUnderName(temp)
	if errMove != nil {
		return fmt.Errorf("%w (and it cannot be tried under its name: %w)", err, errMove)
	}
	return errors.Join(checkAnswers(ctx, i.Binary()), back())
}

// tryUnderName gives the copy the plugin's name until back is called. The installed plugin has the name of
// the copy meanwhile.
func (i *Installer) tryUnderName(temp string) (back func() error, err error) {
	there, err := exists(i.Binary())
	if err == nil {
		err = i.step("try " + PluginType)
	}
	if err != nil {
		return nil, err
	}
	flags := uint(unix.RENAME_NOREPLACE)
	if there {
		flags = unix.RENAME_EXCHANGE
	}
	move := func(from, to string) error {
		return os.NewSyscallError("renameat2", unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, flags))
	}
	return func() error { return move(i.Binary(), temp) }, move(temp, i.Binary())
}
