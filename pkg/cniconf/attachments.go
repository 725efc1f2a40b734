// SPDX-License-Identifier: Apache-2.0

package cniconf

import "encoding/json"

// Keys of the list that GC gets. The first release of specification 1.1 printed the older name; libcni sends
// both.
const (
	keyValidAttachments      = "cni.dev/valid-attachments"
	keyValidAttachmentsOlder = "cni.dev/attachments"
)

// attachments fills in ValidAttachments. If it cannot parse the list, it leaves it nil, never empty: GC
// removes what is not listed, so a list misread as empty would decline every running container.
func (p *parser) attachments(values map[string]json.RawMessage) {
	for _, name := range []string{keyValidAttachments, keyValidAttachmentsOlder} {
		raw, present := values[name]
		if !present {
			continue
		}
		v := value{p, name, "a list of objects with containerID and ifname", raw}
		if list, ok := v.attachmentList(); ok {
			p.conf.ValidAttachments = &list
		}
		return
	}
}

// attachmentList reads null as an empty list: runtimes written in Go encode an empty list that way.
func (v value) attachmentList() ([]Attachment, bool) {
	items, ok := v.list()
	if !ok {
		return nil, false
	}
	list := make([]Attachment, 0, len(items))
	complete := true
	for i, raw := range items {
		var a Attachment
		if err := json.Unmarshal(raw, &a); err != nil || a.ContainerID == "" || a.IfName == "" {
			v.item(i, raw, "an object with the strings containerID and ifname").reject()
			complete = false
			continue
		}
		list = append(list, a)
	}
	return list, complete
}
