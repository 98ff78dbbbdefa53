//go:build integration && azblob

package ckpt

import (
	"strings"
	"testing"

	"github.com/covey-ml/covey/internal/storetest"
)

func TestAzure(t *testing.T)          { examStore(t, storetest.Azure(t)) }
func TestAzureLarge(t *testing.T)     { examLarge(t, storetest.Azure(t), false, false) }
func TestAzureTogether(t *testing.T)  { examTogether(t, storetest.Azure(t)) }
func TestAzureAbandoned(t *testing.T) { examAbandoned(t, storetest.Azure(t)) }

// TestAzureRefuses: what cannot work says what would.
func TestAzureRefuses(t *testing.T) {
	run := storetest.Azure(t)
	if err := Save(strings.Replace(StepDir(run, 1), "//runs", "//nowhere", 1), sample(1, 1)); err == nil || !strings.Contains(err.Error(), "ContainerNotFound") {
		t.Errorf("no such container: %v", err)
	}
	forgetStores()
	t.Setenv("AZURE_STORAGE_KEY", "YW5vdGhlcg==")
	if err := Save(StepDir(run, 1), sample(1, 1)); err == nil || !strings.Contains(err.Error(), "AuthorizationFailure") {
		t.Errorf("a wrong secret: %v", err)
	}
	forgetStores()
	t.Setenv("AZURE_STORAGE_KEY", "")
	t.Setenv("AZURE_STORAGE_SAS_TOKEN", "sig=x")
	for _, c := range []struct{ where, want string }{
		{run, "none of Azure's"},
		{"azblob://runs/a", "AZURE_STORAGE_ACCOUNT"},
		{"azblob://runs/a?acount=x", "account"},
		{"azblob://runs/a?account=x&endpoint=http://x.blob.core.windows.net", "https"},
	} {
		if err := CheckPlace(c.where); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v: want an error with %q", c.where, err, c.want)
		}
	}
	for _, where := range []string{"azblob://runs/a?account=x", "azblob://runs/a?account=x&endpoint=https://x.blob.core.chinacloudapi.cn"} {
		if err := CheckPlace(where); err != nil {
			t.Errorf("%s: %v", where, err)
		}
	}
}
