# SPDX-License-Identifier: MPL-2.0

mock_provider "aws" {
  source = "../../testdata/mocks"
}

variables {
  region               = "us-east-1"
  consul_http_addr     = "https://consul.example.com:8501"
  gateway_role_name    = "gateway"
  registrator_zip_path = "versions.tf"
  function_zip_path    = "versions.tf"
}

run "a_first_plan" {
  command = plan

  assert {
    condition = aws_lambda_function.called.tags == tomap({
      "serverless.consul.hashicorp.com/v1alpha1/lambda/enabled"             = "true"
      "serverless.consul.hashicorp.com/v1alpha1/lambda/invocation-mode"     = "SYNCHRONOUS"
      "serverless.consul.hashicorp.com/v1alpha1/lambda/payload-passthrough" = "false"
    })
    error_message = jsonencode(aws_lambda_function.called.tags)
  }
}

run "the_gateway_may_invoke_the_function_and_no_other" {
  variables {
    name                   = "demo"
    consul_http_token_path = "/consul/token"
    consul_ca_cert_path    = "/consul/ca"
    subnet_ids             = ["subnet-1"]
    security_group_ids     = ["sg-1"]
    gateway_service_name   = "lambdas"
    invocation_mode        = "ASYNCHRONOUS"
    payload_passthrough    = true
  }

  assert {
    condition = jsondecode(aws_iam_role_policy.gateway.policy).Statement == [{
      Effect   = "Allow"
      Action   = "lambda:InvokeFunction"
      Resource = aws_lambda_function.called.arn
    }]
    error_message = aws_iam_role_policy.gateway.policy
  }
  assert {
    condition     = jsondecode(output.terminating_gateway) == { Kind = "terminating-gateway", Name = "lambdas", Services = [{ Name = "demo-called" }] }
    error_message = output.terminating_gateway
  }
  assert {
    condition     = output.sync == "aws lambda invoke --region us-east-1 --cli-read-timeout 0 --function-name demo-registrator /dev/stdout"
    error_message = output.sync
  }
}
