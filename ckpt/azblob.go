//go:build azblob

package ckpt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	azure "github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"gocloud.dev/blob/azureblob"
)

func init() { drivers["azblob"] = openAzure }

// openAzure reads azblob://CONTAINER/PREFIX?account=NAME&endpoint=https://HOST. The account may come from
// AZURE_STORAGE_ACCOUNT; the endpoint is NAME.blob.core.windows.net unless another is given. Credentials are AZURE_STORAGE_KEY,
// AZURE_STORAGE_SAS_TOKEN, or what Azure's own tools find: AZURE_CLIENT_ID and the like, the machine's identity, or az login.
func openAzure(u *url.URL) (fsys, error) {
	q, err := parameters(u, "account", "endpoint")
	if err != nil {
		return nil, err
	}
	account := cmp.Or(q.Get("account"), os.Getenv("AZURE_STORAGE_ACCOUNT"))
	if account == "" {
		return nil, errors.New("no storage account is named: expected azblob://CONTAINER/PREFIX?account=NAME, or AZURE_STORAGE_ACCOUNT")
	}
	e, err := endpoint(cmp.Or(q.Get("endpoint"), "https://"+account+".blob.core.windows.net"))
	if err != nil {
		return nil, err
	}
	where := e.JoinPath(u.Host).String()
	secret, token := os.Getenv("AZURE_STORAGE_KEY"), os.Getenv("AZURE_STORAGE_SAS_TOKEN")
	if secret == "" && !azures(e.Hostname()) {
		return nil, fmt.Errorf("endpoint %s is none of Azure's: only what AZURE_STORAGE_KEY signs is sent there, never a token", e)
	}
	o := &azure.ClientOptions{}
	o.Transport, o.Retry = client(requestTimeout), policy.RetryOptions{MaxRetries: attempts - 1}
	var c *azure.Client
	switch {
	case secret != "":
		var k *azure.SharedKeyCredential
		if k, err = azure.NewSharedKeyCredential(account, secret); err == nil {
			c, err = azure.NewClientWithSharedKeyCredential(where, k, o)
		}
	case token != "":
		c, err = azure.NewClientWithNoCredential(where+"?"+strings.TrimPrefix(token, "?"), o)
	default:
		var k *azidentity.DefaultAzureCredential
		if k, err = azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{ClientOptions: o.ClientOptions}); err == nil {
			c, err = azure.NewClient(where, k, o)
		}
	}
	if err != nil {
		return nil, err
	}
	b, err := azureblob.OpenBucket(context.Background(), c, nil)
	if err != nil {
		return nil, err
	}
	return newCloud(b, cloudConfig{
		absent: func(err error) bool { return bloberror.HasCode(err, bloberror.BlobNotFound) },
		hint:   "credentials are those of AZURE_STORAGE_KEY, AZURE_STORAGE_SAS_TOKEN, AZURE_CLIENT_ID and the like, the machine's, or of az login",
	}), nil
}

// azures tells whether a host is one of Azure's.
func azures(host string) bool {
	for domain := range azureblob.AllowedStorageDomains {
		if strings.HasSuffix(host, "."+domain) {
			return true
		}
	}
	return false
}
