# One mesh over existing clusters: joined on apply, proved, and left by whoever is no longer named.
#
# Keys and tokens stay out of Terraform: the provisioners run meshlink, which keeps its keys in its own vault, and the
# data source returns readiness, gateway addresses and a fingerprint. All of it may be read from the state by anyone.
# What the provisioners run is written here and nowhere else: from the state come arguments, by the environment.

terraform {
  required_version = ">= 1.5"
  required_providers {
    external = { source = "hashicorp/external" }
  }
}

locals {
  more = { for name, found in var.clusters : name => lookup(var.members, name, {}) }
  # A member that says itself how it is found is not found by another way too.
  found    = { for name, found in var.clusters : name => can(local.more[name].eks) || can(local.more[name].context) ? {} : { find = found } }
  clusters = [for name, found in var.clusters : merge({ name = name }, local.found[name], local.more[name])]
  file     = jsonencode(merge(var.mesh, { mesh = var.name, clusters = local.clusters }))
}

# A member that is no longer named leaves, and nobody else. One whose cluster becomes another leaves before the old one goes.
resource "terraform_data" "member" {
  for_each = var.clusters

  # What destroy needs must be in here: by then the variables are gone.
  input            = { file = local.file, timeout = var.timeout, options = join("\n", var.options) }
  triggers_replace = { cluster = each.value, mesh = var.name }

  # Load balancers go before the clusters do: depend on the clusters, and nothing is left behind.
  provisioner "local-exec" {
    when        = destroy
    interpreter = ["sh", "-c"]
    command     = <<-EOT
      set -fe
      file=$(mktemp)
      trap 'rm -f "$file"' EXIT
      printf '%s' "$MESH_FILE" >"$file"
      IFS='
      '
      meshlink leave --uninstall --yes -f "$file" --timeout "$TIMEOUT" --wait-lock "$TIMEOUT" $OPTIONS -- "$MEMBER"
    EOT
    environment = {
      MEMBER    = each.key
      MESH_FILE = self.output.file
      TIMEOUT   = self.output.timeout
      OPTIONS   = self.output.options
    }
  }
}

# A join does what is missing, so it may run as often as it likes. Replacing this destroys nothing.
resource "terraform_data" "join" {
  input            = { clusters = join(",", keys(terraform_data.member)), file = local.file }
  triggers_replace = { file = local.file }

  provisioner "local-exec" {
    interpreter = ["sh", "-c"]
    command     = <<-EOT
      set -fe
      printf '%s' "$MESH_FILE" >"$FILE"
      IFS='
      '
      exec meshlink join --yes -f "$FILE" --timeout "$TIMEOUT" --wait-lock "$TIMEOUT" $OPTIONS
    EOT
    environment = {
      FILE      = "${path.root}/meshlink-${var.name}.json"
      MESH_FILE = local.file
      TIMEOUT   = var.timeout
      OPTIONS   = join("\n", var.options)
    }
  }
}

data "external" "mesh" {
  program = ["meshlink", "terraform"]
  query = {
    document      = terraform_data.join.output.file
    sandbox       = contains(var.options, "--sandbox") ? "true" : "false"
    timeout       = var.status_timeout
    require_ready = var.require_ready ? "true" : "false"
  }
}

check "mesh_ready" {
  assert {
    condition     = data.external.mesh.result.ready == "true"
    error_message = data.external.mesh.result.reason
  }
}
