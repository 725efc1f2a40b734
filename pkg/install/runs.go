// SPDX-License-Identifier: Apache-2.0

package install

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/sockmap-cni/sockmap-cni/pkg/selinux"
	"golang.org/x/sys/unix"
)

// answers asks a plugin for its versions, as CRI-O does. A binary for another machine, or half of one, must not
// take the place of one that works, and a runtime must not be told of one that the node refuses to run.
func answers(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, path)
	cmd.Env = []string{"CNI_COMMAND=VERSION"}
	cmd.Stdin = bytes.NewReader([]byte(`{"cniVersion":"1.0.0"}`))
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if why := whyNotRun(path, err); why != "" {
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

// whyNotRun says who refuses to execute a file, and what to do about it. It is empty for errors that say it themselves.
func whyNotRun(path string, err error) string {
	switch {
	case errors.Is(err, unix.EACCES) && noexec(path):
		return fmt.Sprintf("the file system of %s is mounted noexec: mount it with exec, or use another directory in which "+
			"the runtime looks for plugins", filepath.Dir(path))
	case errors.Is(err, unix.EACCES) && selinux.Label() != "":
		return fmt.Sprintf("SELinux may refuse it: see \"ausearch -m avc -ts recent\", and \"restorecon -v %s\"", path)
	case errors.Is(err, unix.EACCES):
		return "its mode, or a policy of the node such as IMA or AppArmor, refuses it"
	case errors.Is(err, unix.EPERM):
		return fmt.Sprintf("a policy of the node refuses it; where that is fapolicyd: \"fapolicyd-cli --file add %s\", then "+
			"\"fapolicyd-cli --update\"", path)
	}
	return ""
}

func noexec(path string) bool {
	var fs unix.Statfs_t
	return unix.Statfs(path, &fs) == nil && fs.Flags&unix.ST_NOEXEC != 0
}

// exchange publishes the plugin and runs what is there then: the directory's mount options, its label and the policies
// of the node count, and the file that was copied lies elsewhere. What cannot be run is taken away, and the file that was
// there before comes back.
func (i *Installer) exchange(ctx context.Context, src io.Reader) (err error) {
	old, err := i.keepOld()
	if err != nil {
		return err
	}
	if err := i.publish(i.Binary(), src, i.ownBinary()); err != nil {
		return errors.Join(err, discard(old))
	}
	err = answers(ctx, i.Binary())
	if err == nil {
		return discard(old)
	}
	if old != "" {
		return errors.Join(err, i.rename(old, i.Binary()))
	}
	_, errRemove := i.remove(i.Binary())
	return errors.Join(err, errRemove)
}

// keepOld gives the file in the plugin's place a second name, which a killed call leaves to the next one as a temporary
// file. It is empty when there is none, or when it cannot have a second name.
func (i *Installer) keepOld() (string, error) {
	there, err := exists(i.Binary())
	if err != nil || !there {
		return "", err
	}
	if err := i.step("keep " + PluginType); err != nil {
		return "", err
	}
	name := filepath.Join(i.BinDir, tempPrefix+"old"+tempSuffix)
	if err := os.Link(i.Binary(), name); err != nil {
		i.log().Warn("the plugin that is there cannot come back if the new one does not run", "file", i.Binary(), "error", err)
		return "", nil
	}
	return name, nil
}

func discard(temp string) error {
	if temp == "" {
		return nil
	}
	return unlink(temp)
}
