package spot

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// aws asks the instance metadata service, version 2, for the notice that a spot instance has two minutes before it is stopped or
// terminated: docs.aws.amazon.com, "Spot Instance interruption notices". There is none, and 404, before, and on other instances.
type aws struct {
	base  string
	token string
}

const tokenLasts = "21600" // seconds, the most that there may be

func (a *aws) ask(ctx context.Context) (string, error) {
	for anew := false; ; anew = true {
		if a.token == "" {
			r, err := fetch(ctx, http.MethodPut, a.base+"/latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds", tokenLasts)
			if err != nil {
				return "", err
			}
			if r.code != http.StatusOK || len(r.body) == 0 {
				return "", fmt.Errorf("for a token %w", r.unexpected())
			}
			a.token, anew = string(r.body), true
		}
		r, err := fetch(ctx, http.MethodGet, a.base+"/latest/meta-data/spot/instance-action", "X-aws-ec2-metadata-token", a.token)
		switch {
		case err != nil:
			return "", err
		case r.code == http.StatusNotFound:
			return "", nil
		case r.code == http.StatusOK:
			return awsNotice(r.body)
		}
		if a.token = ""; anew || r.code != http.StatusUnauthorized { // else it has run out
			return "", r.unexpected()
		}
	}
}

// awsNotice reads an instance action.
func awsNotice(b []byte) (string, error) {
	var n struct{ Action, Time string }
	if err := json.Unmarshal(b, &n); err != nil {
		return "", fmt.Errorf("its notice is no JSON: %w", err)
	}
	if n.Action == "" {
		return "", errors.New("its notice has no action")
	}
	return fmt.Sprintf("AWS is about to %s this machine, at %s", short(n.Action), short(n.Time)), nil
}

// gcp asks the metadata server whether the instance is being preempted, which leaves it half a minute: cloud.google.com, "Create and
// use preemptible VMs".
type gcp struct{ base string }

func (g gcp) ask(ctx context.Context) (string, error) {
	const flavor = "Metadata-Flavor"
	r, err := fetch(ctx, http.MethodGet, g.base+"/computeMetadata/v1/instance/preempted", flavor, "Google")
	switch {
	case err != nil:
		return "", err
	case r.code != http.StatusOK:
		return "", r.unexpected()
	case r.head.Get(flavor) != "Google":
		return "", errors.New("what answers is not Google's metadata server")
	}
	return gcpNotice(r.body)
}

// gcpNotice reads whether an instance is preempted.
func gcpNotice(b []byte) (string, error) {
	switch text := strings.TrimSpace(string(b)); text {
	case "FALSE":
		return "", nil
	case "TRUE":
		return "Google Cloud is about to preempt this machine", nil
	default:
		return "", fmt.Errorf("it says %s, expected TRUE or FALSE", short(text))
	}
}

// azure asks for the scheduled events, which announce an eviction half a minute before: learn.microsoft.com, "Scheduled Events for
// Linux VMs". The first answer may take two minutes, in which the service is being turned on for the machine.
type azure struct {
	base string
	name string // of this machine, by which events name it
}

func (a *azure) ask(ctx context.Context) (string, error) {
	if a.name == "" {
		r, err := a.get(ctx, "/metadata/instance/compute/name?api-version=2021-02-01&format=text")
		if err != nil {
			return "", err
		}
		if a.name = strings.TrimSpace(string(r.body)); a.name == "" {
			return "", errors.New("it does not say what this machine is called")
		}
	}
	r, err := a.get(ctx, "/metadata/scheduledevents?api-version=2020-07-01")
	if err != nil {
		return "", err
	}
	return azureNotice(r.body, a.name)
}

func (a *azure) get(ctx context.Context, path string) (reply, error) {
	r, err := fetch(ctx, http.MethodGet, a.base+path, "Metadata", "true")
	if err == nil && r.code != http.StatusOK {
		err = r.unexpected()
	}
	return r, err
}

// azureNotice reads scheduled events, which are those of machines beside this one, too.
func azureNotice(b []byte, machine string) (string, error) {
	var all struct {
		Events []struct {
			EventType, NotBefore string
			Resources            []string
		}
	}
	if err := json.Unmarshal(bytes.TrimPrefix(b, []byte("\ufeff")), &all); err != nil {
		return "", fmt.Errorf("its events are no JSON: %w", err)
	}
	for _, e := range all.Events {
		if e.EventType == "Preempt" && slices.ContainsFunc(e.Resources, func(r string) bool { return strings.EqualFold(r, machine) }) {
			if e.NotBefore == "" { // it has begun
				return "Azure is evicting this machine", nil
			}
			return fmt.Sprintf("Azure is about to evict this machine, not before %s", short(e.NotBefore)), nil
		}
	}
	return "", nil
}

// short is a word of somebody's, fit to show.
func short(text string) string { return fmt.Sprintf("%.40q", text) }
