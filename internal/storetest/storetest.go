// Package storetest starts object stores for tests that save to them. integration/setup.sh installs them.
package storetest

import (
	"bytes"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// S3 starts versitygw over an empty folder with a bucket of the name "runs". It sets the environment's credentials and returns
// the URL of a run's folder. The server ends with the test.
func S3(t *testing.T) string {
	t.Helper()
	root, side := t.TempDir(), t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "runs"), 0o777); err != nil {
		t.Fatal(err)
	}
	const key, secret = "covey", "a secret of the test"
	at := start(t, "versitygw", func(host, port string) []string {
		return []string{"--port", net.JoinHostPort(host, port), "--access", key, "--secret", secret, "--quiet", "posix", "--sidecar", side, root}
	})
	t.Setenv("AWS_ACCESS_KEY_ID", key)
	t.Setenv("AWS_SECRET_ACCESS_KEY", secret)
	return "s3://runs/digits/a?region=us-east-1&endpoint=" + url.QueryEscape("http://"+at)
}

// GS is S3 for Google's store, by fake-gcs-server. Where the server is the environment alone says, so that each has a bucket of
// another name.
func GS(t *testing.T) string {
	t.Helper()
	at := start(t, "fake-gcs-server", func(host, port string) []string {
		return []string{"-scheme", "http", "-host", host, "-port", port, "-public-host", net.JoinHostPort(host, port), "-backend", "memory", "-log-level", "warn"}
	})
	_, port, _ := strings.Cut(at, ":")
	bucket := "runs-" + port
	r, err := http.Post("http://"+at+"/storage/v1/b?project=covey", "application/json", strings.NewReader(`{"name":"`+bucket+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if r.StatusCode != http.StatusOK {
		t.Fatalf("making a bucket: %s", r.Status)
	}
	t.Setenv("STORAGE_EMULATOR_HOST", at)
	return "gs://" + bucket + "/digits/a"
}

// start runs a tool that listens where args says, and returns that address when it answers.
func start(t *testing.T, tool string, args func(host, port string) []string) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(cache, "covey-tools", tool)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: integration/setup.sh installs it", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().String()
	l.Close()
	host, port, err := net.SplitHostPort(at)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args(host, port)...)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("%s says\n%s", tool, log.String())
		}
	})
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if r, err := http.Get("http://" + at); err == nil {
			r.Body.Close()
			return at
		}
		if time.Now().After(end) {
			t.Fatalf("no %s in 30 seconds", tool)
		}
	}
}
