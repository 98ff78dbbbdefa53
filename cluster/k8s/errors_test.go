package k8s

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// What the API server would refuse, or take and never run, is refused here, with the field and what to do.
func TestErrors(t *testing.T) {
	dir := certs(t, "mnist", "*.mnist")
	other := certs(t, "mnist", "node1.example")
	for _, c := range []struct {
		field, says string
		change      func(*Job)
	}{
		{"name", "a letter first", func(j *Job) { j.Name = "1st" }},
		{"name", "a letter first", func(j *Job) { j.Name = "Mnist" }},
		{"name", "a letter first", func(j *Job) { j.Name = "a-" }},
		{"name", "longer", func(j *Job) { j.Name, j.Workers = strings.Repeat("a", 61), 11 }},
		{"namespace", "letters", func(j *Job) { j.Namespace = "a.b" }},
		{"image", "registry.example", func(j *Job) { j.Image = "" }},
		{"image", "registry.example", func(j *Job) { j.Image = "a b" }},
		{"workers", "1 to", func(j *Job) { j.Workers = 0 }},
		{"workers", "1 to", func(j *Job) { j.Workers = 100_001 }},
		{"job", "empty", func(j *Job) { j.File = nil }},
		{"job", "more than", func(j *Job) { j.File = make([]byte, maxFile+1) }},
		{"tls", "covey ca issue DIR mnist '*.mnist'", func(j *Job) { j.Workers = 2 }},
		{"tls", "no file", func(j *Job) { j.Certs = filepath.Join(dir, "none") }},
		{"tls", "not for mnist-0.mnist", func(j *Job) { j.Certs = other }},
		{"tls", "expired", func(j *Job) { j.Certs, j.Now = dir, now.AddDate(20, 0, 0) }},
		{"secret", "not both", func(j *Job) { j.Secret, j.Certs = "s", dir }},
		{"secret", "cannot be", func(j *Job) { j.Secret = "a/b" }},
		{"nats", "HOST:PORT", func(j *Job) { j.NATS = []string{"http://a:1"} }},
		{"nats", "no port", func(j *Job) { j.NATS = []string{"a:70000"} }},
		{"nats", "for all to read", func(j *Job) { j.NATS = []string{"nats://u:p@a:1"} }},
		{"args", "control", func(j *Job) { j.Args = []string{"a\nb"} }},
		{"args", "$(", func(j *Job) { j.Args = []string{"$(HOME)"} }},
		{"data", "one of them", func(j *Job) { j.Data = Volume{Claim: "a", Empty: true} }},
		{"data", "whole path", func(j *Job) { j.Data.HostPath = "/a/../b" }},
		{"runs", "claim's name", func(j *Job) { j.Runs.Claim = "A" }},
		{"cpu", "quantity", func(j *Job) { j.CPU = "two" }},
		{"cpu", "quantity", func(j *Job) { j.CPU = "0" }},
		{"memory", "thousandths", func(j *Job) { j.Memory = "512m" }},
		{"grace", "1s to", func(j *Job) { j.Grace = -time.Second }},
		{"deadline", "1s or more", func(j *Job) { j.Deadline = time.Millisecond }},
		{"retries", "up to", func(j *Job) { j.Retries = 1001 }},
	} {
		j := least()
		c.change(&j)
		_, err := Write(j)
		var e *Error
		if !errors.As(err, &e) || e.Field != c.field || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v\nwant %s: ... %s", err, c.field, c.says)
		}
	}
}

func TestParseVolume(t *testing.T) {
	for text, want := range map[string]Volume{"": {}, "empty": {Empty: true}, "claim:a": {Claim: "a"}, "host:/a:b": {HostPath: "/a:b"}} {
		if got, err := ParseVolume(text); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for text, says := range map[string]string{"clam:a": `"claim"`, "claim:": "claim:NAME", "claim": "claim:NAME", "empty:1": "empty"} {
		if got, err := ParseVolume(text); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %+v, %v; want %s", text, got, err, says)
		}
	}
}

// The image is built by the Go that go.mod asks for, deploy/ has the same file, and it holds what the pods rely on.
func TestDockerfile(t *testing.T) {
	same, err := os.ReadFile("../../deploy/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(same, Dockerfile) {
		t.Error("deploy/Dockerfile and cluster/k8s/Dockerfile differ")
	}
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindSubmatch(mod)
	if version == nil {
		t.Fatal("go.mod names no Go")
	}
	for _, line := range []string{"FROM golang:" + string(version[1]) + " AS build", "CGO_ENABLED=0", "FROM scratch", fmt.Sprintf("USER %d:%[1]d", user),
		"/out" + binary + " ./cmd/covey", `ENTRYPOINT ["` + binary + `"]`, fmt.Sprintf("EXPOSE %d %d", PodPort, OpsPort), "ca-certificates.crt"} {
		if !bytes.Contains(Dockerfile, []byte(line)) {
			t.Errorf("no %q in the Dockerfile", line)
		}
	}
}

// Kubernetes' own packages are for these tests; the binary is without them.
func TestNothingOfKubernetesInTheBinary(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !bytes.Contains(out, []byte("covey/cluster/place")) {
		t.Fatalf("go list lists no imports:\n%s", out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "k8s.io/") || strings.HasPrefix(line, "sigs.k8s.io/") {
			t.Errorf("imports %s", line)
		}
	}
}
