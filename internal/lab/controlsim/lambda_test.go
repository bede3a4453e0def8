// SPDX-License-Identifier: MPL-2.0

package controlsim

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/resourcegroupstaggingapi"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// Not parallel: the SDK finds the server as it will in the product, by the environment.
func TestTheSDKFindsAllServicesByTheEnvironment(t *testing.T) {
	s, err := Start(Config{Region: "eu-west-1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	s.RequireAuth(Principal{AccessKeyID: "AKIDENV"})
	s.AddFunction("orders", map[string]string{"team": "shop"})
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL_LAMBDA": s.URL(), "AWS_ENDPOINT_URL_RESOURCE_GROUPS_TAGGING_API": s.URL(), "AWS_ENDPOINT_URL_STS": s.URL(),
		"AWS_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "AKIDENV", "AWS_SECRET_ACCESS_KEY": "secret",
		"AWS_EC2_METADATA_DISABLED": "true", "AWS_CA_BUNDLE": "", "AWS_CONFIG_FILE": "/nonexistent", "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
	} {
		t.Setenv(name, value)
	}
	cfg, err := config.LoadDefaultConfig(t.Context(), config.WithHTTPClient(httpClient(t)))
	if err != nil {
		t.Fatal(err)
	}
	f := must[*lambda.GetFunctionOutput](t)(lambda.NewFromConfig(cfg).GetFunction(t.Context(),
		&lambda.GetFunctionInput{FunctionName: aws.String("orders")}))
	if got := aws.ToString(f.Configuration.FunctionArn); got != "arn:aws:lambda:eu-west-1:123456789012:function:orders" || f.Tags["team"] != "shop" {
		t.Errorf("the function is %s with tags %v", got, f.Tags)
	}
	r := must[*resourcegroupstaggingapi.GetResourcesOutput](t)(resourcegroupstaggingapi.NewFromConfig(cfg).GetResources(t.Context(),
		&resourcegroupstaggingapi.GetResourcesInput{}))
	if len(r.ResourceTagMappingList) != 1 {
		t.Errorf("the tagging API shows %v", r.ResourceTagMappingList)
	}
	id := must[*sts.GetCallerIdentityOutput](t)(sts.NewFromConfig(cfg).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{}))
	if aws.ToString(id.Account) != "123456789012" || aws.ToString(id.Arn) != "arn:aws:sts::123456789012:assumed-role/fn-role/fn" {
		t.Errorf("the caller is %s of %s", aws.ToString(id.Arn), aws.ToString(id.Account))
	}
}

func TestAFunctionLivesThroughTheAPI(t *testing.T) {
	t.Parallel()
	w := start(t, Config{})
	ctx := t.Context()
	name := aws.String("orders")
	create := &lambda.CreateFunctionInput{
		FunctionName: name, Role: aws.String("arn:aws:iam::123456789012:role/r"),
		Code: &types.FunctionCode{ZipFile: []byte("zip")}, Tags: map[string]string{"a": "1"},
	}
	created := must[*lambda.CreateFunctionOutput](t)(w.lambda.CreateFunction(ctx, create))
	if aws.ToString(created.FunctionArn) != w.ARN("orders") || created.State != types.StateActive {
		t.Errorf("created %+v", created)
	}
	_, err := w.lambda.CreateFunction(ctx, create)
	if got := code(err); got != "409 ResourceConflictException" {
		t.Errorf("created twice: %s", got)
	}
	arn := aws.String(w.ARN("orders"))
	must[*lambda.TagResourceOutput](t)(w.lambda.TagResource(ctx, &lambda.TagResourceInput{Resource: arn, Tags: map[string]string{"a": "2", "b": "x y"}}))
	must[*lambda.UntagResourceOutput](t)(w.lambda.UntagResource(ctx, &lambda.UntagResourceInput{Resource: arn, TagKeys: []string{"a", "none"}}))
	tags := must[*lambda.ListTagsOutput](t)(w.lambda.ListTags(ctx, &lambda.ListTagsInput{Resource: arn})).Tags
	if !maps.Equal(tags, map[string]string{"b": "x y"}) {
		t.Errorf("the tags are %v", tags)
	}
	got, ok := w.Get("orders")
	if !ok || !maps.Equal(got.Tags, tags) || got.Role != "arn:aws:iam::123456789012:role/r" {
		t.Errorf("the server has %+v", got)
	}
	must[*lambda.DeleteFunctionOutput](t)(w.lambda.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: arn}))
	_, err = w.lambda.GetFunction(ctx, &lambda.GetFunctionInput{FunctionName: name})
	if got := code(err); got != "404 ResourceNotFoundException" || !strings.Contains(err.Error(), "Function not found: "+w.ARN("orders")) {
		t.Errorf("a deleted function is answered %v", err)
	}
	if n := w.Count("GetFunction"); n != 1 || w.Calls()[0].Name != "orders" {
		t.Errorf("counted %d in %v", n, w.Calls())
	}
}

// A DeleteFunction with a qualifier is a version, not the function (G12).
func TestVersionsAndAliasesLiveBesideTheFunction(t *testing.T) {
	t.Parallel()
	w := start(t, Config{})
	w.AddFunctions(Function{Name: "orders", Versions: 1, Aliases: map[string]string{"live": "1"}})
	ctx, name := t.Context(), aws.String("orders")

	v2 := must[*lambda.PublishVersionOutput](t)(w.lambda.PublishVersion(ctx, &lambda.PublishVersionInput{FunctionName: name}))
	if aws.ToString(v2.Version) != "2" || aws.ToString(v2.FunctionArn) != w.ARN("orders:2") {
		t.Errorf("published %s, %s", aws.ToString(v2.Version), aws.ToString(v2.FunctionArn))
	}
	a := must[*lambda.CreateAliasOutput](t)(w.lambda.CreateAlias(ctx, &lambda.CreateAliasInput{
		FunctionName: name, Name: aws.String("next"), FunctionVersion: aws.String("2"), Description: aws.String("d")}))
	if aws.ToString(a.AliasArn) != w.ARN("orders:next") {
		t.Errorf("the alias is %s", aws.ToString(a.AliasArn))
	}
	u := must[*lambda.UpdateAliasOutput](t)(w.lambda.UpdateAlias(ctx, &lambda.UpdateAliasInput{
		FunctionName: name, Name: aws.String("next"), FunctionVersion: aws.String("$LATEST")}))
	if aws.ToString(u.FunctionVersion) != "$LATEST" || aws.ToString(u.Description) != "d" || aws.ToString(u.RevisionId) == aws.ToString(a.RevisionId) {
		t.Errorf("updated from %+v to %+v", a, u)
	}
	list := must[*lambda.ListAliasesOutput](t)(w.lambda.ListAliases(ctx, &lambda.ListAliasesInput{FunctionName: name}))
	if len(list.Aliases) != 2 || aws.ToString(list.Aliases[0].Name) != "live" {
		t.Errorf("the aliases are %+v", list.Aliases)
	}
	list = must[*lambda.ListAliasesOutput](t)(w.lambda.ListAliases(ctx, &lambda.ListAliasesInput{FunctionName: name, FunctionVersion: aws.String("1")}))
	if len(list.Aliases) != 1 {
		t.Errorf("the aliases of version 1 are %+v", list.Aliases)
	}
	f := must[*lambda.GetFunctionOutput](t)(w.lambda.GetFunction(ctx, &lambda.GetFunctionInput{FunctionName: name, Qualifier: aws.String("live")}))
	if aws.ToString(f.Configuration.Version) != "1" || aws.ToString(f.Configuration.FunctionArn) != w.ARN("orders:live") {
		t.Errorf("by an alias the function is %+v", f.Configuration)
	}
	remove := func(function, qualifier string) error {
		in := &lambda.DeleteFunctionInput{FunctionName: aws.String(function)}
		if qualifier != "" {
			in.Qualifier = aws.String(qualifier)
		}
		_, err := w.lambda.DeleteFunction(ctx, in)
		return err
	}
	for _, c := range []struct{ what, function, qualifier, want string }{
		{"a version that an alias points to", "orders", "1", "409 ResourceConflictException"},
		{"$LATEST", "orders", "$LATEST", "400 InvalidParameterValueException"},
		{"an alias as a version", "orders:live", "", "400 InvalidParameterValueException"},
		{"two versions at once", "orders:2", "1", "400 InvalidParameterValueException"},
		{"a version", "orders:2", "", ""},
		{"a version that is gone", "orders", "2", ""},
		{"another account's function", "arn:aws:lambda:us-east-1:999999999999:function:orders", "", "404 ResourceNotFoundException"},
		{"no name", "a b", "", "400 ValidationException"},
	} {
		if got := code(remove(c.function, c.qualifier)); got != c.want {
			t.Errorf("deleting %s is answered %q, want %q", c.what, got, c.want)
		}
	}
	if got, ok := w.Get("orders"); !ok || got.Aliases["live"] != "1" {
		t.Errorf("the function itself is %+v, %v", got, ok)
	}
	for qualifier, want := range map[string]string{"2": "404 ResourceNotFoundException", "none": "404 ResourceNotFoundException", "1": ""} {
		_, err := w.lambda.GetFunction(ctx, &lambda.GetFunctionInput{FunctionName: name, Qualifier: aws.String(qualifier)})
		if got := code(err); got != want {
			t.Errorf("qualifier %s is answered %q", qualifier, got)
		}
	}
	must[*lambda.DeleteAliasOutput](t)(w.lambda.DeleteAlias(ctx, &lambda.DeleteAliasInput{FunctionName: name, Name: aws.String("live")}))
	_, err := w.lambda.GetAlias(ctx, &lambda.GetAliasInput{FunctionName: name, Name: aws.String("live")})
	if got := code(err); got != "404 ResourceNotFoundException" {
		t.Errorf("a deleted alias is answered %q", got)
	}
	for _, c := range []struct{ alias, version, want string }{
		{"next", "1", "409 ResourceConflictException"},
		{"7", "1", "400 InvalidParameterValueException"},
		{"new", "9", "404 ResourceNotFoundException"},
	} {
		_, err := w.lambda.CreateAlias(ctx, &lambda.CreateAliasInput{FunctionName: name, Name: aws.String(c.alias), FunctionVersion: aws.String(c.version)})
		if got := code(err); got != c.want {
			t.Errorf("alias %s of version %s is answered %q, want %q", c.alias, c.version, got, c.want)
		}
	}
}

func TestTagsObeyTheirLimits(t *testing.T) {
	t.Parallel()
	w := start(t, Config{})
	full := make(map[string]string)
	for i := range 49 {
		full["k"+strings.Repeat("x", i)] = "v"
	}
	w.AddFunction("f", full)
	for what, c := range map[string]struct {
		resource string
		tags     map[string]string
		want     string
	}{
		"one more":           {w.ARN("f"), map[string]string{"new": ""}, ""},
		"one too many":       {w.ARN("f"), map[string]string{"n1": "", "n2": ""}, "400 InvalidParameterValueException"},
		"a comma":            {w.ARN("f"), map[string]string{"new": "a,b"}, "400 InvalidParameterValueException"},
		"a long key":         {w.ARN("f"), map[string]string{strings.Repeat("k", 129): ""}, "400 InvalidParameterValueException"},
		"a long value":       {w.ARN("f"), map[string]string{"new": strings.Repeat("v", 257)}, "400 InvalidParameterValueException"},
		"a reserved key":     {w.ARN("f"), map[string]string{"aws:x": ""}, "400 InvalidParameterValueException"},
		"an alias":           {w.ARN("f:live"), map[string]string{"new": ""}, "400 InvalidParameterValueException"},
		"a name, not an ARN": {"f", map[string]string{"new": ""}, "400 InvalidParameterValueException"},
		"no such function":   {w.ARN("g"), map[string]string{"new": ""}, "404 ResourceNotFoundException"},
	} {
		w.SetTags("f", full)
		_, err := w.lambda.TagResource(t.Context(), &lambda.TagResourceInput{Resource: aws.String(c.resource), Tags: c.tags})
		if got := code(err); got != c.want {
			t.Errorf("%s: answered %q, want %q", what, got, c.want)
		}
	}
}

// 50 a page whatever is asked, and no tags.
func TestListFunctionsComesInPagesOfFiftyAtMost(t *testing.T) {
	t.Parallel()
	w := start(t, Config{})
	w.AddFunctions(many(120)...)
	var got []string
	p := lambda.NewListFunctionsPaginator(w.lambda, &lambda.ListFunctionsInput{MaxItems: aws.Int32(1000)})
	for p.HasMorePages() {
		page := must[*lambda.ListFunctionsOutput](t)(p.NextPage(t.Context()))
		if len(page.Functions) > 50 {
			t.Errorf("a page has %d functions", len(page.Functions))
		}
		for _, f := range page.Functions {
			got = append(got, aws.ToString(f.FunctionName))
		}
		w.Remove("f00000") // what was listed already; the next page begins where this one ended
	}
	if len(got) != 120 || !slices.IsSorted(got) || w.Count("ListFunctions") != 3 {
		t.Errorf("listed %d functions in %d calls", len(got), w.Count("ListFunctions"))
	}
	for want, in := range map[string]*lambda.ListFunctionsInput{
		"400 InvalidParameterValueException": {Marker: aws.String("foreign")},
		"400 ValidationException":            {MaxItems: aws.Int32(0)},
	} {
		_, err := w.lambda.ListFunctions(t.Context(), in)
		if got := code(err); got != want {
			t.Errorf("answered %q, want %q", got, want)
		}
	}
}

// G2: without lambda:ListTags a function looks untagged, but for the TagsError.
func TestWithoutListTagsGetFunctionSucceedsWithATagsError(t *testing.T) {
	t.Parallel()
	w := start(t, Config{})
	w.AddFunction("f", map[string]string{"enabled": "true"})
	w.Deny("lambda:ListTags")
	in := &lambda.GetFunctionInput{FunctionName: aws.String("f")}
	out := must[*lambda.GetFunctionOutput](t)(w.lambda.GetFunction(t.Context(), in))
	if out.Tags != nil || out.TagsError == nil || aws.ToString(out.TagsError.ErrorCode) != "AccessDeniedException" {
		t.Errorf("tags %v, error %+v", out.Tags, out.TagsError)
	}
	_, err := w.lambda.ListTags(t.Context(), &lambda.ListTagsInput{Resource: aws.String(w.ARN("f"))})
	if got := code(err); got != "403 AccessDeniedException" || !strings.Contains(err.Error(), "lambda:ListTags on resource: "+w.ARN("f")) {
		t.Errorf("ListTags is answered %v", err)
	}
	w.Allow()
	if out = must[*lambda.GetFunctionOutput](t)(w.lambda.GetFunction(t.Context(), in)); out.TagsError != nil || out.Tags["enabled"] != "true" {
		t.Errorf("allowed again: tags %v, error %+v", out.Tags, out.TagsError)
	}
}

// The variables are those of the function for each of its versions; who may not decrypt them is told so in their place.
func TestTheConfigurationOfAFunctionHasItsVariables(t *testing.T) {
	t.Parallel()
	w := start(t, Config{})
	w.AddFunctions(Function{Name: "f", Aliases: map[string]string{"live": "$LATEST"}, Environment: map[string]string{"A": "1"}})
	w.AddFunction("bare", nil)
	ask := func(name string) (*lambda.GetFunctionConfigurationOutput, error) {
		return w.lambda.GetFunctionConfiguration(t.Context(), &lambda.GetFunctionConfigurationInput{FunctionName: aws.String(name)})
	}
	for _, name := range []string{"f", "f:live", w.ARN("f")} {
		out := must[*lambda.GetFunctionConfigurationOutput](t)(ask(name))
		if aws.ToString(out.FunctionName) != "f" || aws.ToInt32(out.MemorySize) != 128 || out.Environment == nil || out.Environment.Variables["A"] != "1" {
			t.Errorf("%s: %+v", name, out)
		}
	}
	if out := must[*lambda.GetFunctionConfigurationOutput](t)(ask("bare")); out.Environment != nil {
		t.Errorf("a function without variables has %+v", out.Environment)
	}
	for _, name := range []string{"ghost", "f:ghost"} {
		if _, err := ask(name); code(err) != "404 ResourceNotFoundException" {
			t.Errorf("%s is answered %v", name, err)
		}
	}
	if !w.SetEnvironment("f", map[string]string{"B": "2"}) || w.SetEnvironment("ghost", nil) {
		t.Error("SetEnvironment says which functions there are, wrongly")
	}
	w.Deny("kms:Decrypt")
	out := must[*lambda.GetFunctionConfigurationOutput](t)(ask("f"))
	if e := out.Environment; e == nil || e.Variables != nil || e.Error == nil || aws.ToString(e.Error.ErrorCode) != "AccessDeniedException" {
		t.Errorf("without kms:Decrypt: %+v", e)
	}
	w.Allow()
	got := must[*lambda.GetFunctionOutput](t)(w.lambda.GetFunction(t.Context(), &lambda.GetFunctionInput{FunctionName: aws.String("f")}))
	if e := got.Configuration.Environment; e == nil || len(e.Variables) != 1 || e.Variables["B"] != "2" {
		t.Errorf("GetFunction: %+v", e)
	}
	w.Deny("lambda:GetFunctionConfiguration")
	if _, err := ask("f"); code(err) != "403 AccessDeniedException" {
		t.Errorf("denied: %v", err)
	}
}

func TestPartitionsShowInEveryARN(t *testing.T) {
	t.Parallel()
	for region, partition := range map[string]string{"us-east-1": "aws", "cn-north-1": "aws-cn", "us-gov-west-1": "aws-us-gov"} {
		w := start(t, Config{Region: region, Account: "210987654321"})
		w.AddFunction("f", map[string]string{"a": "b"})
		want := "arn:" + partition + ":lambda:" + region + ":210987654321:function:f"
		f := must[*lambda.GetFunctionOutput](t)(w.lambda.GetFunction(t.Context(), &lambda.GetFunctionInput{FunctionName: aws.String(want)}))
		if got := aws.ToString(f.Configuration.FunctionArn); got != want {
			t.Errorf("%s: the function is %s", region, got)
		}
		r := must[*resourcegroupstaggingapi.GetResourcesOutput](t)(w.tagging.GetResources(t.Context(), &resourcegroupstaggingapi.GetResourcesInput{}))
		if got := aws.ToString(r.ResourceTagMappingList[0].ResourceARN); got != want {
			t.Errorf("%s: the resource is %s", region, got)
		}
		w.SetCaller("arn:" + partition + ":iam::999999999999:user/somebody")
		id := must[*sts.GetCallerIdentityOutput](t)(w.sts.GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{}))
		if aws.ToString(id.Account) != "999999999999" {
			t.Errorf("%s: the caller's account is %s", region, aws.ToString(id.Account))
		}
	}
}
