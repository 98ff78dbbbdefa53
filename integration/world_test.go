//go:build integration

package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// must runs a program to its end.
func must(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// The arm64 tests of the packages whose bits matter pass under emulation, and a small job has amd64's hash there.
func TestArm64(t *testing.T) {
	dir := t.TempDir()
	for _, pkg := range []string{"vec", "comm", "ckpt", "data"} {
		bin := filepath.Join(dir, pkg+".test")
		cmd := exec.Command("go", "test", "-c", "-o", bin, "../"+pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH=arm64")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", pkg, err, out)
		}
		run := exec.Command("qemu-aarch64", bin, "-test.short", "-test.timeout=15m")
		run.Dir = "../" + pkg
		if out, err := run.CombinedOutput(); err != nil {
			t.Errorf("%s on arm64: %v\n%s", pkg, err, out)
		}
	}
	job := []string{"train", "--data", "digits:train=300,test=100", "--model", "mlp:24,dropout=0.1", "--epochs", "2", "--batch", "50",
		"--microshards", "4", "--workers", "2", "--transport", "inproc", "--json", "--quiet", "--run", "r"}
	want := train(t, job[1:]...)
	binary := filepath.Join(dir, "covey-arm64")
	if err := build(binary, "arm64"); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("qemu-aarch64", append([]string{binary}, job...)...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var got result
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	if got.Weights != want.Weights || got.Loss != want.Loss {
		t.Errorf("arm64: weights %.12s loss %v; amd64: %.12s %v", got.Weights, got.Loss, want.Weights, want.Loss)
	}
	portable := exec.Command(covey, job...)
	portable.Dir, portable.Env = t.TempDir(), append(os.Environ(), "COVEY_NOASM=1")
	if out, err = portable.Output(); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out, &got); err != nil || got.Weights != want.Weights {
		t.Errorf("without assembly: weights %.12s, with it %.12s (%v)", got.Weights, want.Weights, err)
	}
}

// A worker in another network namespace joins over TLS; without certificates it is not let in.
func TestJoinAcrossNamespaces(t *testing.T) {
	ns := fmt.Sprintf("covey%d", os.Getpid())
	host, there := fmt.Sprintf("cva%d", os.Getpid()%100000), fmt.Sprintf("cvb%d", os.Getpid()%100000)
	must(t, "ip", "netns", "add", ns)
	t.Cleanup(func() { exec.Command("ip", "netns", "del", ns).Run() })
	must(t, "ip", "link", "add", host, "type", "veth", "peer", "name", there, "netns", ns)
	t.Cleanup(func() { exec.Command("ip", "link", "del", host).Run() })
	must(t, "ip", "addr", "add", "10.213.7.1/24", "dev", host)
	must(t, "ip", "link", "set", host, "up")
	must(t, "ip", "-n", ns, "addr", "add", "10.213.7.2/24", "dev", there)
	must(t, "ip", "-n", ns, "link", "set", there, "up")
	must(t, "ip", "-n", ns, "link", "set", "lo", "up")

	dir := t.TempDir()
	certs := filepath.Join(dir, "certs")
	must(t, covey, "ca", "init", certs)
	must(t, covey, "ca", "issue", certs, "one", "10.213.7.1")
	must(t, covey, "ca", "issue", certs, "two", "10.213.7.2")
	job := []string{"--data", "digits:train=1000,test=100", "--microshards", "6", "--epochs", "2"}
	want := train(t, append(job, "--workers", "1")...)

	r := command(t, append([]string{"train", "--workers", "3", "--join", "1", "--listen", "10.213.7.1:7443", "--tls", certs, "--node", "one", "--json"}, job...)...)
	r.start(t)
	r.pids(t, 2, "waiting for 1 worker")
	stranger := exec.Command("ip", "netns", "exec", ns, covey, "join", "10.213.7.1:7443")
	if out, err := stranger.CombinedOutput(); err == nil || !strings.Contains(string(out), "covey ca") {
		t.Errorf("a worker without certificates: %v\n%s", err, out)
	}
	must(t, covey, "ca", "init", filepath.Join(dir, "other"))
	must(t, covey, "ca", "issue", filepath.Join(dir, "other"), "two", "10.213.7.2")
	stranger = exec.Command("ip", "netns", "exec", ns, covey, "join", "10.213.7.1:7443", "--tls", filepath.Join(dir, "other"))
	if out, err := stranger.CombinedOutput(); err == nil {
		t.Errorf("a worker with another CA's certificate joined\n%s", out)
	}
	join := exec.Command("ip", "netns", "exec", ns, covey, "join", "10.213.7.1:7443", "--tls", certs, "--node", "two")
	join.Dir = dir
	if out, err := join.CombinedOutput(); err != nil {
		t.Errorf("join: %v\n%s", err, out)
	}
	if c := r.code(t); c != 0 {
		t.Fatalf("exit code %d\n%s", c, r.progress())
	}
	var got result
	if err := json.Unmarshal(r.out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.Weights != want.Weights || got.BytesSent != got.BytesExpected || *got.BytesSocket != got.BytesSent+got.BytesControl {
		t.Errorf("over TLS: %+v (%d at the sockets); alone: %.12s", got, *got.BytesSocket, want.Weights)
	}
}

// A full disk while saving: the checkpoint before it stays whole, the user is told, and the exit code says so.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	must(t, "mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", dir)
	t.Cleanup(func() { exec.Command("umount", dir).Run() })
	// 101,770 parameters and Adam's moments are 1.2 MB a checkpoint: two fit, a third while two are kept does not.
	r := command(t, "train", "--data", "digits:train=1000,test=100", "--model", "mlp:128", "--epochs", "6", "--keep", "5", "--run", filepath.Join(dir, "r"))
	if c := r.code(t); c != 1 {
		t.Errorf("exit code %d", c)
	}
	said := r.err.String()
	if !strings.Contains(said, "NOT saved") || !strings.Contains(said, "no space left on device") {
		t.Errorf("nobody says that the disk is full:\n%s", said)
	}
	p := command(t, "inspect", filepath.Join(dir, "r"))
	if c := p.code(t); c != 0 {
		t.Errorf("the run folder after a full disk: exit code %d\n%s%s", c, p.out.String(), p.err.String())
	}
}
