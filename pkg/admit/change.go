// SPDX-License-Identifier: Apache-2.0

package admit

import (
	"context"
	"errors"
	"fmt"

	"github.com/sockmap-cni/sockmap-cni/pkg/datapath"
	"github.com/sockmap-cni/sockmap-cni/pkg/decline"
	"github.com/sockmap-cni/sockmap-cni/pkg/endpoint"
)

// Differences returns what Apply would do differently for the sandbox of this attachment now, each in words.
// An attachment that was declined for another reason than hazards or an opt-out has no differences, because
// its reason is not in the configuration.
func (c Call) Differences(attachment endpoint.Attachment) ([]string, error) {
	on, source := c.Conf.Accelerate()
	switch wasOff := attachment.Reason == decline.OptedOut; {
	case !on && wasOff:
		return nil, nil
	case !on:
		return []string{"enabled: true, now false by " + source}, nil
	case wasOff:
		return []string{"enabled: false, now true by " + source}, nil
	}
	held, err := c.hazardError()
	if err != nil {
		return nil, err
	}
	var hazards *endpoint.HazardError
	errors.As(held, &hazards)
	switch {
	case attachment.Reason == decline.Hazards && held == nil:
		return []string{"acceptHazards: what kept it on TCP is accepted now"}, nil
	case attachment.Declined != "":
		return nil, nil
	case hazards != nil:
		return []string{fmt.Sprintf("acceptHazards: %s, now not accepted", hazards.Hazards)}, nil
	case attachment.Policy == nil:
		return nil, nil // of ABI 1, which did not record policies
	}
	return policyDifferences(*attachment.Policy,
		policyOf(c.Conf, endpoint.Sandbox{PodNamespace: attachment.PodNamespace})), nil
}

// hazardError returns the HazardError for open hazards that the configuration does not accept.
func (c Call) hazardError() (held, err error) {
	held = c.Node.CheckHazards(c.Conf.HazardsAccepted())
	var hazards *endpoint.HazardError
	if held == nil || errors.As(held, &hazards) {
		return held, nil
	}
	return nil, held
}

func policyDifferences(was, now datapath.Policy) (all []string) {
	for _, key := range PolicyKeys {
		if was, now := key.Text(was), key.Text(now); was != now {
			all = append(all, fmt.Sprintf("%s: %s, now %s", key.Name, was, now))
		}
	}
	return all
}

// Update does for a sandbox with an attachment what Apply would do now, including ending its acceleration if
// a hazard is not accepted any more. After an error the attachment is unchanged.
func (c Call) Update(ctx context.Context, sb endpoint.Sandbox, attachment endpoint.Attachment) error {
	if on, source := c.Conf.Accelerate(); !on {
		return c.optOut(ctx, sb, source)
	}
	err := c.accelerate(ctx, sb, attachment)
	var hazards *endpoint.HazardError
	if errors.As(err, &hazards) {
		return c.Node.Withdraw(ctx, sb, err)
	}
	return err
}
