# SPDX-License-Identifier: MPL-2.0

data "aws_partition" "current" {}
data "aws_region" "current" {}
data "aws_caller_identity" "current" {}

locals {
  partition = data.aws_partition.current.partition
  region    = data.aws_region.current.id
  account   = data.aws_caller_identity.current.account_id

  in_vpc = length(var.subnet_ids) > 0 && length(var.security_group_ids) > 0

  # Which of the three packages it is. An image wins nothing by itself: with a zip beside it the precondition below refuses.
  from_image = var.ecr_image_uri != "" && var.zip_path == "" && var.s3_bucket == ""

  data_prefix = trimsuffix(var.consul_extension_data_prefix, "/")

  environment = {
    CONSUL_HTTP_ADDR = var.consul_http_addr
    CONSUL_HTTP_SSL  = var.consul_ca_cert_path == "" ? null : "true"

    NODE_NAME                    = var.node_name
    DATACENTER                   = var.consul_datacenter
    ENTERPRISE                   = tostring(var.enterprise)
    PARTITIONS                   = join(",", var.partitions)
    LOG_LEVEL                    = var.log_level
    PAGE_SIZE                    = var.page_size
    CONSUL_CACERT_PATH           = var.consul_ca_cert_path
    CONSUL_HTTP_TOKEN_PATH       = var.consul_http_token_path
    CONSUL_EXTENSION_DATA_PREFIX = local.data_prefix
    CONSUL_EXTENSION_DATA_TIER   = var.consul_extension_data_tier

    CONSUL_LAMBDA_KMS_KEY_ID        = var.kms_key_arn
    CONSUL_LAMBDA_MAX_DELETES       = var.max_deletes
    CONSUL_LAMBDA_POLICY            = var.policy
    CONSUL_LAMBDA_SCHEDULE          = "${var.sync_frequency_in_minutes}m"
    CONSUL_REFRESH_FREQUENCY        = "${var.extension_refresh_frequency_in_minutes}m"
    CONSUL_LAMBDA_METRICS           = var.metrics
    CONSUL_LAMBDA_RATE_LAMBDA       = var.rate_limits.lambda
    CONSUL_LAMBDA_RATE_GET_FUNCTION = var.rate_limits.get_function
    CONSUL_LAMBDA_RATE_TAGGING      = var.rate_limits.tagging
    CONSUL_LAMBDA_RATE_SSM_PUT      = var.rate_limits.ssm_put
    CONSUL_LAMBDA_RATE_CONSUL       = var.rate_limits.consul
  }
}

resource "aws_lambda_function" "registration" {
  function_name                  = var.name
  description                    = "Keeps Consul and Parameter Store equal to this account's tagged functions"
  role                           = aws_iam_role.registration.arn
  architectures                  = [var.arch]
  timeout                        = var.timeout
  memory_size                    = var.memory_size
  reserved_concurrent_executions = var.reserved_concurrent_executions
  tags                           = var.tags

  package_type      = local.from_image ? "Image" : "Zip"
  image_uri         = local.from_image ? var.ecr_image_uri : null
  runtime           = local.from_image ? null : "provided.al2023"
  handler           = local.from_image ? null : "bootstrap"
  filename          = var.zip_path == "" ? null : var.zip_path
  source_code_hash  = var.zip_path == "" ? null : filebase64sha256(var.zip_path)
  s3_bucket         = var.s3_bucket == "" ? null : var.s3_bucket
  s3_key            = var.s3_key == "" ? null : var.s3_key
  s3_object_version = var.s3_object_version == "" ? null : var.s3_object_version

  environment {
    # What is empty is left out: the registrator has the defaults.
    variables = merge({ for name, value in local.environment : name => value if value != null && value != "" }, var.environment)
  }

  dynamic "vpc_config" {
    for_each = local.in_vpc ? [true] : []
    content {
      subnet_ids         = var.subnet_ids
      security_group_ids = var.security_group_ids
    }
  }

  logging_config {
    log_group = aws_cloudwatch_log_group.registration.name
    # The registrator writes JSON lines by itself, and metrics among them that must arrive as they are.
    log_format = "Text"
  }

  lifecycle {
    precondition {
      condition     = length([for set in [var.zip_path != "", var.s3_bucket != "", var.ecr_image_uri != ""] : set if set]) == 1
      error_message = "Say where the registrator's code is: exactly one of zip_path, s3_bucket (with s3_key) and ecr_image_uri."
    }
    precondition {
      condition     = (var.s3_bucket == "") == (var.s3_key == "")
      error_message = "s3_bucket and s3_key go together."
    }
    precondition {
      condition     = (length(var.subnet_ids) == 0) == (length(var.security_group_ids) == 0)
      error_message = "subnet_ids and security_group_ids go together: with one of them alone the function would not be in the VPC."
    }
  }

  # Without the policy a first event would fail; without the group Lambda would make one that never forgets.
  depends_on = [aws_iam_role_policy_attachment.lambda_logs]
}

# Not /aws/lambda/<name>: Lambda made that one by itself for the predecessor, and creating what exists fails.
resource "aws_cloudwatch_log_group" "registration" {
  name              = var.log_group_name == "" ? "/consul-lambda/${var.name}" : var.log_group_name
  retention_in_days = var.log_retention_in_days
  kms_key_id        = var.log_kms_key_arn == "" ? null : var.log_kms_key_arn
  tags              = var.tags
}
