//go:build gs

package ckpt

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"

	"cloud.google.com/go/storage"
	"gocloud.dev/blob/gcsblob"
	"gocloud.dev/gcp"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"
)

func init() { drivers["gs"] = openGS }

// openGS reads gs://BUCKET/PREFIX. Credentials come from where Google's own tools have them: the file that
// GOOGLE_APPLICATION_CREDENTIALS names, what gcloud auth application-default login left, or the machine's service account.
// STORAGE_EMULATOR_HOST names another server, which is asked without any.
func openGS(u *url.URL) (fsys, error) {
	if _, err := parameters(u); err != nil {
		return nil, err
	}
	most := client(requestTimeout)
	anyone := gcp.NewAnonymousHTTPClient(bounded{most})
	if host := os.Getenv("STORAGE_EMULATOR_HOST"); host == "" {
		who, err := gcp.NewHTTPClient(bounded{most}, &late{client: most})
		if err != nil {
			return nil, err
		}
		anyone = who
	} else {
		if !strings.Contains(host, "://") {
			host = "http://" + host
		}
		if _, err := endpoint(host); err != nil {
			return nil, fmt.Errorf("STORAGE_EMULATOR_HOST: %w", err)
		}
	}
	b, err := gcsblob.OpenBucket(context.Background(), anyone, u.Host, nil)
	if err != nil {
		return nil, err
	}
	var c *storage.Client
	if b.As(&c) { // it would try for ever
		c.SetRetry(storage.WithMaxAttempts(attempts))
	}
	return newCloud(b, cloudConfig{
		absent: func(err error) bool { return errors.Is(err, storage.ErrObjectNotExist) },
		sums:   true,
		copies: true,
		hint:   "credentials are those of GOOGLE_APPLICATION_CREDENTIALS, of gcloud auth application-default login, or the machine's",
	}), nil
}

// late looks for credentials when the first request needs them: who writes nothing needs none.
type late struct {
	client *http.Client
	once   sync.Once
	from   oauth2.TokenSource
	err    error
}

func (l *late) Token() (*oauth2.Token, error) {
	l.once.Do(func() {
		ctx := context.WithValue(context.Background(), oauth2.HTTPClient, l.client)
		var c *google.Credentials
		if c, l.err = gcp.DefaultCredentials(ctx); l.err == nil {
			l.from = c.TokenSource
		}
	})
	if l.err != nil {
		return nil, l.err
	}
	return l.from.Token()
}
