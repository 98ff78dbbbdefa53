//go:build gs || azblob

package ckpt

import (
	"errors"
	"net/url"
	"testing"

	"gocloud.dev/blob/memblob"
	"gocloud.dev/gcerrors"
)

// inMemory is a run's URL in a store in memory.
func inMemory(t *testing.T, sums, copies bool) string {
	t.Helper()
	b := memblob.OpenBucket(nil)
	run := stored(t, newMemFS())
	drivers["mem"] = func(*url.URL) (fsys, error) {
		return newCloud(b, cloudConfig{absent: func(err error) bool { return gcerrors.Code(err) == gcerrors.NotFound }, sums: sums, copies: copies, hint: "none needed"}), nil
	}
	t.Cleanup(func() { b.Close() }) // which a test may have done
	return run
}

func TestCloud(t *testing.T) {
	for _, sums := range []bool{true, false} {
		examStore(t, inMemory(t, sums, true))
		forgetStores()
		examLarge(t, inMemory(t, sums, sums), sums, sums)
		forgetStores()
		examTogether(t, inMemory(t, sums, true))
		forgetStores()
		examAbandoned(t, inMemory(t, sums, true))
		forgetStores()
	}
}

// TestCloudThatIsNotThere: an object that may not be seen is not taken for one that is absent.
func TestCloudThatIsNotThere(t *testing.T) {
	run := inMemory(t, true, true)
	b, name := storeAt(t, run)
	put(t, b, name+"/a", []byte("a"))
	c := b.(*cloud)
	c.c.absent = func(error) bool { return false }
	if err := b.RemoveAll(name + "/b"); gcerrors.Code(errors.Unwrap(err)) != gcerrors.NotFound {
		t.Errorf("what cannot be removed: %v", err)
	}
	if err := c.b.Close(); err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"/a", "/b", ""} {
		if there, err := b.Exists(name + what); err == nil {
			t.Errorf("%s is there: %v, and nobody can be asked", what, there)
		}
	}
}
