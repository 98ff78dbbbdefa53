//go:build azblob

package storetest

import (
	"net/url"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
)

// Azure is S3 for Azure's store, by Azurite.
func Azure(t *testing.T) string {
	t.Helper()
	const account, secret = "covey", "YSBzZWNyZXQgb2YgdGhlIHRlc3Q="
	t.Setenv("AZURITE_ACCOUNTS", account+":"+secret)
	root := t.TempDir()
	at := start(t, "azurite-blob", func(host, port string) []string {
		return []string{"--blobHost", host, "--blobPort", port, "--location", root, "--silent", "--skipApiVersionCheck"}
	})
	endpoint := "http://" + at + "/" + account
	k, err := container.NewSharedKeyCredential(account, secret)
	if err != nil {
		t.Fatal(err)
	}
	c, err := container.NewClientWithSharedKeyCredential(endpoint+"/runs", k, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Create(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AZURE_STORAGE_KEY", secret)
	return "azblob://runs/digits/a?account=" + account + "&endpoint=" + url.QueryEscape(endpoint)
}
