package uptane

import "encoding/json"

// ParseTargets reads a targets.json or a delegation's metadata and checks all but its signatures.
func ParseTargets(repo Repository, data []byte, opts ...Option) (*Targets, error) {
	o, err := open(data, "targets metadata", func(l Limits) int { return l.targets(repo) }, opts)
	if err != nil {
		return nil, unverified(err)
	}
	t, err := targetsOf(repo, o)
	return t, unverified(err)
}

// ParseUnsignedTargets reads the signed part alone, as it lies in roles/unsigned/targets.json, where build systems
// edit it.
func ParseUnsignedTargets(repo Repository, data []byte, opts ...Option) (*Targets, error) {
	o, err := openUnsigned(data, "unsigned targets metadata", func(l Limits) int { return l.targets(repo) }, opts)
	if err != nil {
		return nil, unverified(err)
	}
	t, err := targetsOf(repo, o)
	return t, unverified(err)
}

func targetsOf(repo Repository, o *opened) (*Targets, error) {
	if repo != Image && repo != Director {
		return nil, because(ErrMalformed, "repository %q is neither image nor director", repo)
	}
	if err := o.mustBe("targets metadata", "Targets"); err != nil {
		return nil, err
	}
	t := &Targets{envelope: o.envelope, repo: repo, extra: map[string]json.RawMessage{}}
	r := reader{where: "targets metadata"}
	body := r.object(r.member(&o.body, "targets"))
	if r.err != nil {
		return nil, r.err
	}
	read := body.entries
	if read.err != nil {
		return nil, read.err
	}
	if read.imageErr != nil && repo == Image {
		return nil, read.imageErr
	}
	t.targets = make(map[string]Target, len(read.list))
	for i := range read.list {
		t.targets[read.list[i].name] = read.list[i].target
	}
	for i := range o.body.members {
		m := &o.body.members[i]
		switch m.key {
		case "_type", "expires", "version", "targets":
		case "delegations":
			if m.value.kind == null {
				continue
			}
			list, err := delegationsOf(&m.value)
			if err != nil {
				return nil, err
			}
			t.delegations = list
		case "custom":
			if m.value.kind != null {
				r.object(&m.value)
				t.custom = m.value.append(nil)
			}
		default:
			t.extra[m.key] = m.value.append(nil)
		}
	}
	if r.err != nil {
		return nil, r.err
	}
	if err := t.check(); err != nil {
		return nil, err
	}
	return t, nil
}
