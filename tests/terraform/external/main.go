// A stand-in for Terraform's external provider, for tests on machines that cannot fetch the real one. It keeps to the
// protocol's rules: one JSON object of strings in, one out, anything else an error; standard error is the message.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"log"
	"os/exec"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

type external struct{}

func (external) Metadata(_ context.Context, _ provider.MetadataRequest, to *provider.MetadataResponse) {
	to.TypeName = "external"
}

func (external) Schema(context.Context, provider.SchemaRequest, *provider.SchemaResponse) {}

func (external) Configure(context.Context, provider.ConfigureRequest, *provider.ConfigureResponse) {}

func (external) Resources(context.Context) []func() resource.Resource { return nil }

func (external) DataSources(context.Context) []func() datasource.DataSource {
	return []func() datasource.DataSource{func() datasource.DataSource { return program{} }}
}

type program struct{}

type data struct {
	ID         types.String            `tfsdk:"id"`
	Program    []types.String          `tfsdk:"program"`
	WorkingDir types.String            `tfsdk:"working_dir"`
	Query      map[string]types.String `tfsdk:"query"`
	Result     map[string]string       `tfsdk:"result"`
}

func (program) Metadata(_ context.Context, _ datasource.MetadataRequest, to *datasource.MetadataResponse) {
	to.TypeName = "external"
}

func (program) Schema(_ context.Context, _ datasource.SchemaRequest, to *datasource.SchemaResponse) {
	to.Schema = schema.Schema{Attributes: map[string]schema.Attribute{
		"id":          schema.StringAttribute{Computed: true},
		"program":     schema.ListAttribute{ElementType: types.StringType, Required: true},
		"working_dir": schema.StringAttribute{Optional: true},
		"query":       schema.MapAttribute{ElementType: types.StringType, Optional: true},
		"result":      schema.MapAttribute{ElementType: types.StringType, Computed: true},
	}}
}

func (program) Read(ctx context.Context, from datasource.ReadRequest, to *datasource.ReadResponse) {
	var d data
	to.Diagnostics.Append(from.Config.Get(ctx, &d)...)
	if to.Diagnostics.HasError() {
		return
	}
	query := map[string]string{}
	for key, value := range d.Query {
		if !value.IsNull() {
			query[key] = value.ValueString()
		}
	}
	input, _ := json.Marshal(query)
	args := []string{}
	for _, arg := range d.Program {
		args = append(args, arg.ValueString())
	}
	command := exec.CommandContext(ctx, args[0], args[1:]...)
	command.Dir = d.WorkingDir.ValueString()
	command.Stdin = bytes.NewReader(input)
	var stderr bytes.Buffer
	command.Stderr = &stderr
	output, err := command.Output()
	if err != nil {
		to.Diagnostics.AddError("External Program Execution Failed", err.Error()+"\n\n"+stderr.String())
		return
	}
	if err := json.Unmarshal(output, &d.Result); err != nil {
		to.Diagnostics.AddError("Unexpected External Program Results", err.Error())
		return
	}
	d.ID = types.StringValue("-")
	to.Diagnostics.Append(to.State.Set(ctx, &d)...)
}

func main() {
	serve := func() provider.Provider { return external{} }
	options := providerserver.ServeOpts{Address: "registry.terraform.io/hashicorp/external"}
	if err := providerserver.Serve(context.Background(), serve, options); err != nil {
		log.Fatal(err)
	}
}
