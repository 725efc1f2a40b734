// SPDX-License-Identifier: Apache-2.0

// Package daemonset makes the agents of a DaemonSet uninstall, through the Kubernetes API, and waits until
// all of them have done so. It is for a Job that runs once, before the DaemonSet is deleted. The agents
// themselves do not use the API.
package daemonset

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"
)

// Flag is the agent's flag that makes it uninstall, and be ready once nothing is left.
const Flag = "--uninstall"

// Container is the name of the agent's container in the DaemonSet.
const Container = "agent"

// helmAnnotation is set by Helm, and only by Helm, on what it installs.
const helmAnnotation = "meta.helm.sh/release-name"

// ErrNotFromHelm: the DaemonSet was not installed by Helm. Somebody who applies the output of helm template,
// with its hooks, does not want to uninstall.
var ErrNotFromHelm = errors.New("it was not installed by Helm (delete the hook's Job, or template the " +
	"chart with --no-hooks)")

// DefaultEvery is the interval of requests.
const DefaultEvery = time.Second

// DaemonSet identifies a DaemonSet in a cluster.
type DaemonSet struct {
	API             *API
	Namespace, Name string
	// Progress, if not nil, is called with a text when the progress changes.
	Progress func(text string)
	Every    time.Duration // interval of requests; 0: DefaultEvery

	last string
}

// object is the part of a DaemonSet that is used.
type object struct {
	Metadata struct {
		Generation  int64
		Annotations map[string]string
	}
	Spec struct {
		Template struct {
			Spec struct {
				Containers []struct {
					Name string
					Args []string
				}
			}
		}
	}
	Status struct {
		ObservedGeneration                                          int64
		DesiredNumberScheduled, UpdatedNumberScheduled, NumberReady int
	}
}

// Uninstall returns when nothing of sockmap is left on any node that has an agent. A DaemonSet that does not
// exist has no agents.
func (d *DaemonSet) Uninstall(ctx context.Context) error {
	now, err := d.get(ctx)
	if isStatus(err, http.StatusNotFound) {
		d.progress("there is no DaemonSet " + d.Namespace + "/" + d.Name)
		return nil
	}
	if err != nil {
		return err
	}
	if now.Metadata.Annotations[helmAnnotation] == "" {
		return fmt.Errorf("DaemonSet %s/%s: %w", d.Namespace, d.Name, ErrNotFromHelm)
	}
	if err := d.addFlag(ctx, now); err != nil {
		return err
	}
	return d.waitUninstalled(ctx)
}

// addFlag gives the agents the flag, and allows all of them to be replaced at once, as nothing depends on a
// running agent.
func (d *DaemonSet) addFlag(ctx context.Context, now *object) error {
	containers := now.Spec.Template.Spec.Containers
	for i, c := range containers {
		if c.Name != Container {
			continue
		}
		if slices.Contains(c.Args, Flag) {
			return nil // an interrupted call has added it
		}
		path := fmt.Sprintf("/spec/template/spec/containers/%d/", i)
		type op map[string]any
		err := d.API.patch(ctx, d.path(), []op{
			{"op": "test", "path": path + "name", "value": Container}, // their order has not changed meanwhile
			{"op": "add", "path": path + "args/-", "value": Flag},
			{"op": "add", "path": "/spec/updateStrategy/rollingUpdate/maxUnavailable", "value": "100%"},
		})
		if err != nil {
			return fmt.Errorf("give the agents of DaemonSet %s/%s the flag %s: %w", d.Namespace, d.Name, Flag, err)
		}
		return nil
	}
	return fmt.Errorf("DaemonSet %s/%s has no container %q", d.Namespace, d.Name, Container)
}

// waitUninstalled waits until all agents have the flag and are ready.
func (d *DaemonSet) waitUninstalled(ctx context.Context) error {
	for {
		now, err := d.get(ctx)
		switch s := now.Status; {
		case ctx.Err() != nil: // the last progress remains the reason
		case err != nil: // the API server may be restarting
			d.progress(err.Error())
		case s.ObservedGeneration < now.Metadata.Generation:
			d.progress("waiting for the DaemonSet's controller")
		case s.UpdatedNumberScheduled < s.DesiredNumberScheduled || s.NumberReady < s.DesiredNumberScheduled:
			d.progress(fmt.Sprintf("sockmap is uninstalled from %d of %d nodes",
				min(s.UpdatedNumberScheduled, s.NumberReady),
				s.DesiredNumberScheduled))
		default:
			d.progress(fmt.Sprintf("sockmap is uninstalled from all %d nodes", s.DesiredNumberScheduled))
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s, and then: %w (the pods of DaemonSet %s/%s that are not ready say in their log "+
				"what is in the way; to leave their nodes as they are, uninstall without hooks)",
				d.last, context.Cause(ctx), d.Namespace, d.Name)
		case <-time.After(cmp.Or(d.Every, DefaultEvery)):
		}
	}
}

func (d *DaemonSet) progress(text string) {
	if d.Progress != nil && text != d.last {
		d.Progress(text)
	}
	d.last = text
}

func (d *DaemonSet) path() string {
	return "/apis/apps/v1/namespaces/" + d.Namespace + "/daemonsets/" + d.Name
}

// get never returns a nil object.
func (d *DaemonSet) get(ctx context.Context) (*object, error) {
	var o object
	err := d.API.get(ctx, d.path(), &o)
	if err != nil {
		err = fmt.Errorf("read DaemonSet %s/%s: %w", d.Namespace, d.Name, err)
	}
	return &o, err
}

// API is a client of an API server.
type API struct {
	Server string // URL
	Token  func() (string, error)
	Client *http.Client
}

// statusError is a response with another status than 2xx.
type statusError struct {
	code    int
	message string
}

func (e *statusError) Error() string {
	return fmt.Sprintf("the API server answers %d: %s", e.code, e.message)
}

func isStatus(err error, code int) bool {
	var e *statusError
	return errors.As(err, &e) && e.code == code
}

func (a *API) get(ctx context.Context, path string, into any) error {
	b, err := a.do(ctx, http.MethodGet, path, "", nil)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, into)
}

func (a *API) patch(ctx context.Context, path string, ops any) error {
	b, err := json.Marshal(ops)
	if err == nil {
		_, err = a.do(ctx, http.MethodPatch, path, "application/json-patch+json", b)
	}
	return err
}

// maxResponse bounds a response in bytes. A DaemonSet has some kilobytes.
const maxResponse = 8 << 20

func (a *API) do(ctx context.Context, method, path, contentType string, body []byte) ([]byte, error) {
	token, err := a.Token()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, a.Server+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Accept", "application/json")
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := a.Client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	b, err := io.ReadAll(io.LimitReader(response.Body, maxResponse))
	if err != nil {
		return nil, err
	}
	if response.StatusCode/100 != 2 {
		var status struct{ Message string }
		_ = json.Unmarshal(b, &status) // the text of a proxy adds nothing to the status
		return nil, &statusError{response.StatusCode, status.Message}
	}
	return b, nil
}
