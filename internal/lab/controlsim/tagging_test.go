// SPDX-License-Identifier: MPL-2.0

package controlsim

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/resourcegroupstaggingapi"
	"github.com/aws/aws-sdk-go-v2/service/resourcegroupstaggingapi/types"
)

// resources reads a whole listing: the functions' names, and the sizes of the pages.
func resources(t testing.TB, w *world, in resourcegroupstaggingapi.GetResourcesInput) (names []string, sizes []int) {
	t.Helper()
	p := resourcegroupstaggingapi.NewGetResourcesPaginator(w.tagging, &in)
	for p.HasMorePages() {
		page := must[*resourcegroupstaggingapi.GetResourcesOutput](t)(p.NextPage(t.Context()))
		sizes = append(sizes, len(page.ResourceTagMappingList))
		for _, r := range page.ResourceTagMappingList {
			names = append(names, strings.TrimPrefix(aws.ToString(r.ResourceARN), w.ARN("")))
		}
	}
	return names, sizes
}

func TestGetResourcesObeysItsFilters(t *testing.T) {
	t.Parallel()
	w := start(t, Config{})
	w.AddFunctions(
		Function{Name: "both", Tags: map[string]string{"enabled": "true", "team": "shop"}},
		Function{Name: "empty", Tags: map[string]string{"enabled": ""}},
		Function{Name: "off", Tags: map[string]string{"enabled": "false"}},
		Function{Name: "other", Tags: map[string]string{"team": "shop"}},
		Function{Name: "past", Tags: map[string]string{"enabled": "true"}},
		Function{Name: "untagged"},
	)
	w.SetTags("past", nil)
	filter := func(key string, values ...string) types.TagFilter {
		return types.TagFilter{Key: aws.String(key), Values: values}
	}
	for what, c := range map[string]struct {
		in   resourcegroupstaggingapi.GetResourcesInput
		want []string
	}{
		"no filter":        {resourcegroupstaggingapi.GetResourcesInput{}, []string{"both", "empty", "off", "other", "past"}},
		"a key":            {resourcegroupstaggingapi.GetResourcesInput{TagFilters: []types.TagFilter{filter("enabled")}}, []string{"both", "empty", "off"}},
		"a value":          {resourcegroupstaggingapi.GetResourcesInput{TagFilters: []types.TagFilter{filter("enabled", "true")}}, []string{"both"}},
		"either value":     {resourcegroupstaggingapi.GetResourcesInput{TagFilters: []types.TagFilter{filter("enabled", "true", "false")}}, []string{"both", "off"}},
		"two filters":      {resourcegroupstaggingapi.GetResourcesInput{TagFilters: []types.TagFilter{filter("enabled"), filter("team", "shop")}}, []string{"both"}},
		"functions":        {resourcegroupstaggingapi.GetResourcesInput{ResourceTypeFilters: []string{"lambda:function"}, TagFilters: []types.TagFilter{filter("team")}}, []string{"both", "other"}},
		"all of a service": {resourcegroupstaggingapi.GetResourcesInput{ResourceTypeFilters: []string{"s3", "lambda"}, TagFilters: []types.TagFilter{filter("team")}}, []string{"both", "other"}},
		"other types":      {resourcegroupstaggingapi.GetResourcesInput{ResourceTypeFilters: []string{"lambda:layer", "s3"}}, nil},
		"by ARN":           {resourcegroupstaggingapi.GetResourcesInput{ResourceARNList: []string{w.ARN("other"), w.ARN("untagged"), w.ARN("none")}}, []string{"other"}},
	} {
		if got, _ := resources(t, w, c.in); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", what, got, c.want)
		}
	}
	for what, in := range map[string]resourcegroupstaggingapi.GetResourcesInput{
		"a page of 0":         {ResourcesPerPage: aws.Int32(0)},
		"a page of 101":       {ResourcesPerPage: aws.Int32(101)},
		"a foreign token":     {PaginationToken: aws.String("foreign")},
		"too many values":     {TagFilters: []types.TagFilter{filter("k", make([]string, 21)...)}},
		"too many filters":    {TagFilters: slices.Repeat([]types.TagFilter{filter("k")}, 51)},
		"ARNs and a filter":   {ResourceARNList: []string{w.ARN("both")}, TagFilters: []types.TagFilter{filter("k")}},
		"ARNs and pages":      {ResourceARNList: []string{w.ARN("both")}, ResourcesPerPage: aws.Int32(1)},
		"tags, not resources": {TagsPerPage: aws.Int32(100)},
	} {
		_, err := w.tagging.GetResources(t.Context(), &in)
		if got := code(err); got != "400 InvalidParameterException" {
			t.Errorf("%s: answered %q", what, got)
		}
	}
}

func TestPagesOfGetResourcesMayComeShortOrEmpty(t *testing.T) {
	t.Parallel()
	enabled := resourcegroupstaggingapi.GetResourcesInput{
		ResourcesPerPage: aws.Int32(4), TagFilters: []types.TagFilter{{Key: aws.String("enabled")}},
	}
	full := start(t, Config{})
	full.AddFunctions(many(60)...)
	want, sizes := resources(t, full, enabled)
	if len(want) != 12 || !slices.Equal(sizes, []int{4, 4, 4}) {
		t.Errorf("full pages: %v in %v", want, sizes)
	}
	short := start(t, Config{TaggingScan: 3})
	short.AddFunctions(many(60)...)
	got, sizes := resources(t, short, enabled)
	if !slices.Equal(got, want) || len(sizes) != 20 || slices.Min(sizes) != 0 {
		t.Errorf("short pages: %v in %v", got, sizes)
	}
}

func TestTheTaggingAPILagsUntilItSettles(t *testing.T) {
	t.Parallel()
	w := start(t, Config{})
	w.AddFunction("a", map[string]string{"enabled": "true"})
	w.AddFunction("b", map[string]string{"enabled": "true"})
	w.AddFunction("c", nil)
	w.LagTags()
	w.Remove("a")
	w.SetTags("c", map[string]string{"enabled": "true"})
	w.AddFunction("d", map[string]string{"enabled": "true"})
	enabled := resourcegroupstaggingapi.GetResourcesInput{TagFilters: []types.TagFilter{{Key: aws.String("enabled")}}}
	if got, _ := resources(t, w, enabled); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("lagging it shows %v", got)
	}
	if _, err := w.lambda.GetFunction(t.Context(), &lambda.GetFunctionInput{FunctionName: aws.String("a")}); code(err) != "404 ResourceNotFoundException" {
		t.Errorf("Lambda lags too: %v", err)
	}
	w.Settle()
	if got, _ := resources(t, w, enabled); !slices.Equal(got, []string{"b", "c", "d"}) {
		t.Errorf("settled it shows %v", got)
	}
}

func TestDeniedGetResourcesNamesTheAction(t *testing.T) {
	t.Parallel()
	w := start(t, Config{})
	w.Deny("tag:GetResources")
	_, err := w.tagging.GetResources(t.Context(), &resourcegroupstaggingapi.GetResourcesInput{})
	if got := code(err); got != "400 AccessDeniedException" || !strings.Contains(err.Error(), "not authorized to perform: tag:GetResources") {
		t.Errorf("answered %v", err)
	}
	w.Allow("tag:GetResources")
	if _, err := w.tagging.GetResources(t.Context(), &resourcegroupstaggingapi.GetResourcesInput{}); err != nil {
		t.Error(err)
	}
}

// The account of the registrator's budget: it must not be the lab that is slow.
func TestTenThousandFunctionsAreNoBurden(t *testing.T) {
	t.Parallel()
	w := start(t, Config{OnEvent: func([]byte) {}})
	begin := time.Now()
	w.AddFunctions(many(10_000)...)
	enabled := resourcegroupstaggingapi.GetResourcesInput{
		ResourcesPerPage: aws.Int32(100), TagFilters: []types.TagFilter{{Key: aws.String("enabled"), Values: []string{"true"}}},
	}
	if got, sizes := resources(t, w, enabled); len(got) != 1000 || len(sizes) != 10 {
		t.Errorf("%d resources in %d pages", len(got), len(sizes))
	}
	n := 0
	for p := lambda.NewListFunctionsPaginator(w.lambda, &lambda.ListFunctionsInput{}); p.HasMorePages(); {
		n += len(must[*lambda.ListFunctionsOutput](t)(p.NextPage(t.Context())).Functions)
	}
	for i := range 10_000 {
		w.SetTags(fmt.Sprintf("f%05d", i), map[string]string{"enabled": "true"})
	}
	w.LagTags()
	for i := range 10_000 {
		w.Remove(fmt.Sprintf("f%05d", i))
	}
	if d := time.Since(begin); n != 10_000 || d > 30*time.Second {
		t.Errorf("%d functions in %v", n, d)
	}
	t.Logf("took %v", time.Since(begin))
}
