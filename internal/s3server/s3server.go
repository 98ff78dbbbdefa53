// Package s3server starts an S3 server for tests that save to one.
package s3server

import (
	"bytes"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Start starts versitygw, which integration/setup.sh installs, over an empty folder with a bucket of the name "runs". It sets the
// environment's credentials and returns the URL of a run's folder. The server ends with the test.
func Start(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	tool := filepath.Join(cache, "covey-tools", "versitygw")
	if _, err := os.Stat(tool); err != nil {
		t.Fatalf("%v: integration/setup.sh installs it", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().String()
	l.Close()
	root, side := t.TempDir(), t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "runs"), 0o777); err != nil {
		t.Fatal(err)
	}
	const key, secret = "covey", "a secret of the test"
	cmd := exec.Command(tool, "--port", at, "--access", key, "--secret", secret, "--quiet", "posix", "--sidecar", side, root)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("the server says\n%s", log.String())
		}
	})
	t.Setenv("AWS_ACCESS_KEY_ID", key)
	t.Setenv("AWS_SECRET_ACCESS_KEY", secret)
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if r, err := http.Get("http://" + at); err == nil {
			r.Body.Close()
			return "s3://runs/digits/a?endpoint=" + url.QueryEscape("http://"+at)
		}
		if time.Now().After(end) {
			t.Fatalf("no server in 30 seconds")
		}
	}
}
